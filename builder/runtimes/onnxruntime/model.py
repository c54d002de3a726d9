"""Triton's `onnxruntime` backend for the embedded server.

Lives inside the server's Python stub, so it imports nothing of this project. It reads the same
`config.pbtxt` as NVIDIA's C++ backend of that name and honours the same parameters.
"""

import json
import os
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would report its use to its makers

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self._input = config["input"][0]["name"]
        self._output = config["output"][0]["name"]
        filename = config["default_model_filename"] or "model.onnx"
        path = os.path.join(args["model_repository"], args["model_version"], filename)
        self._session = onnxruntime.InferenceSession(
            path, self._options(config["parameters"]), providers=self._providers(args)
        )

    @staticmethod
    def _options(parameters: dict[str, dict[str, str]]) -> Any:
        options = onnxruntime.SessionOptions()
        if threads := parameters.get("intra_op_thread_count"):
            options.intra_op_num_threads = int(threads["string_value"])
        if threads := parameters.get("inter_op_thread_count"):
            options.inter_op_num_threads = int(threads["string_value"])
        return options

    @staticmethod
    def _providers(args: dict[str, str]) -> list[Any]:
        if args["model_instance_kind"] != "GPU":
            return ["CPUExecutionProvider"]
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            # ONNX Runtime would fall back to the CPU with no more than a log line.
            raise pb_utils.TritonModelException(
                "KIND_GPU needs onnxruntime-gpu; the installed onnxruntime has no CUDAExecutionProvider"
            )
        device = {"device_id": int(args["model_instance_device_id"])}
        return [("CUDAExecutionProvider", device), "CPUExecutionProvider"]

    def execute(self, requests: list[Any]) -> list[Any]:
        tensors = [pb_utils.get_input_tensor_by_name(r, self._input) for r in requests]
        parts = [np.from_dlpack(tensor) for tensor in tensors]
        batch = parts[0] if len(parts) == 1 else np.concatenate(parts)
        (outputs,) = self._session.run([self._output], {self._input: batch})
        splits = np.cumsum([len(part) for part in parts])[:-1]
        return [self._response(rows) for rows in np.split(outputs, splits)]

    def _response(self, rows: Any) -> Any:
        return pb_utils.InferenceResponse([pb_utils.Tensor(self._output, rows)])
