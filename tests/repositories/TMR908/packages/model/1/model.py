import json
import os.path

import numpy as np
import torch
from PIL import Image


class TritonPythonModel:
    def execute(self, requests):
        return []
