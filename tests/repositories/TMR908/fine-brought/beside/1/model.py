import json
import os.path

import numpy as np
import beside_it
from . import other


class TritonPythonModel:
    def execute(self, requests):
        return []
