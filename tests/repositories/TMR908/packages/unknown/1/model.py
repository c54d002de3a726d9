import json
import os.path

import numpy as np
import some_package_that_nobody_has


class TritonPythonModel:
    def execute(self, requests):
        return []
