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
from named_tensors import Given, NamedTensorsModel, refuse_types


class TritonPythonModel(NamedTensorsModel):
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self.take_names(config)
        refuse_types(self, {"BF16"}, "ONNX Runtime's Python side has no such arrays")
        self._names = list(self.outputs)
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

    def read(self, tensor: Any, data_type: str) -> Any:
        if data_type == "STRING":
            return as_texts(tensor.as_numpy())
        return tensor.as_numpy() if data_type == "BOOL" else np.from_dlpack(tensor)

    def join(self, arrays: list[Any]) -> Any:
        return np.concatenate(arrays)

    def compute(self, given: Given) -> list[Any]:
        outputs = self._session.run(self._names, given)
        for name, output in zip(self._names, outputs, strict=True):
            if not isinstance(output, np.ndarray):
                raise ValueError(f"{name} is no tensor but a {type(output).__name__}")
        return outputs  # type: ignore[no-any-return]

    def write(self, name: str, array: Any) -> Any:
        return pb_utils.Tensor(name, array)


def as_texts(array: Any) -> Any:
    """ONNX Runtime would take bytes for the way that Python prints them."""
    texts = [value.decode() if isinstance(value, bytes) else value for value in array.flat]
    return np.array(texts, object).reshape(array.shape)
