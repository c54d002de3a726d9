import json
import os.path

import numpy as np
try:
    import torch
except ImportError:
    torch = None


class TritonPythonModel:
    def execute(self, requests):
        return []
