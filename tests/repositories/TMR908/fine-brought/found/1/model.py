import json
import os.path

import numpy as np
import sys

sys.path.append("/opt/packages")
import packaged


class TritonPythonModel:
    def execute(self, requests):
        return []
