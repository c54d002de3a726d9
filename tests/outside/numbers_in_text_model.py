"""Runs inside the server, by Triton's Python backend."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self.scale = np.float32(json.loads(parameters["recipe"]["string_value"])["scale"])

    def execute(self, requests):
        return [pb_utils.InferenceResponse([self.numbers(request)]) for request in requests]

    def numbers(self, request):
        lines = pb_utils.get_input_tensor_by_name(request, "LINE").as_numpy().ravel()
        rows = [[float(part) for part in line.split(b",")] for line in lines]
        return pb_utils.Tensor("NUMBERS", np.array(rows, np.float32) / self.scale)
