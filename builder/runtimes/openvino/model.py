"""Triton's `openvino` backend for the embedded server.

Lives inside the server's Python stub, so it imports nothing of this project. It reads the same
`config.pbtxt` as NVIDIA's C++ backend of that name and honours the same parameters, but for
ENABLE_BATCH_PADDING, since here any batch runs as it is. INFERENCE_PRECISION_HINT is its own:
NVIDIA's build takes bf16 wherever the CPU has it.
"""

import json
import os
from typing import Any

import numpy as np
import openvino
import triton_python_backend_utils as pb_utils
from named_tensors import Given, NamedTensorsModel, refuse_types

RECOVERY_SIZES = (1, 2)
PROPERTIES = ("INFERENCE_NUM_THREADS", "NUM_STREAMS", "PERFORMANCE_HINT", "INFERENCE_PRECISION_HINT")


class TritonPythonModel(NamedTensorsModel):
    OVERWRITES = True

    def initialize(self, args: dict[str, str]) -> None:
        if args["model_instance_kind"] == "GPU":
            raise pb_utils.TritonModelException("the openvino backend runs on CPUs alone; use KIND_CPU")
        config = json.loads(args["model_config"])
        self.take_names(config)
        refuse_types(self, {"BF16", "STRING"}, "OpenVINO's Python side has no such arrays")
        self._is_open = any(int(size) < 0 for tensor in config["input"] for size in tensor["dims"])
        filename = config["default_model_filename"] or "model.xml"
        path = os.path.join(args["model_repository"], args["model_version"], filename)
        self._source = path, self._properties(config["parameters"])
        self._compile()
        self._indices = [self._index(self._compiled.outputs, name) for name in self.outputs]

    def _compile(self) -> None:
        path, properties = self._source
        self._compiled = openvino.Core().compile_model(path, "CPU", properties)
        self._request = self._compiled.create_infer_request()

    @staticmethod
    def _index(outputs: list[Any], name: str) -> int:
        for index, output in enumerate(outputs):
            if name in output.get_names():
                return index
        raise pb_utils.TritonModelException(f"the model has no output {name}")

    @staticmethod
    def _properties(parameters: dict[str, dict[str, str]]) -> dict[str, str]:
        given = {key: parameters[key]["string_value"] for key in PROPERTIES if key in parameters}
        if parameters.get("HINT_BF16", {}).get("string_value", "").upper() == "YES":
            given["INFERENCE_PRECISION_HINT"] = "bf16"
        # Each instance would pin its threads to the first cores, all of them to the same.
        return given | {"ENABLE_CPU_PINNING": "NO"}

    def read(self, tensor: Any, data_type: str) -> Any:
        return tensor.as_numpy() if data_type == "BOOL" else np.from_dlpack(tensor)

    def join(self, arrays: list[Any]) -> Any:
        return np.concatenate(arrays)

    def compute(self, given: Given) -> list[Any]:
        if self._is_open:
            self._infer_safely(given)
        else:
            self._request.infer(given, share_inputs=True, share_outputs=True)
        # Shared, not copied: the answers are written out before the next call.
        return [self._request.get_output_tensor(index).data for index in self._indices]

    def _infer_safely(self, given: Given) -> None:
        """With one thread, infer() says nothing of sizes that do not fit, and leaves the last request's answers."""
        try:
            self._infer(given)
        except Exception:
            self._recover()
            raise

    def _infer(self, given: Given) -> None:
        self._request.start_async(given, share_inputs=True)
        self._request.wait()

    def _recover(self) -> None:
        """Leave nothing of a request that failed.

        OpenVINO computes sizes anew only where they have changed since the last request, and one that failed leaves
        some of its own behind: the next one that has the same would fail, whoever sends it. One that succeeds, of
        other sizes, puts all of them right.
        """
        if not any(self._takes(size) for size in RECOVERY_SIZES):
            self._compile()

    def _takes(self, size: int) -> bool:
        """Whether zeros of this size are answered. What has failed once goes on failing, so that a request is new."""
        self._request = self._compiled.create_infer_request()
        try:
            self._infer({port.get_any_name(): _zeros(port, size) for port in self._compiled.inputs})
        except Exception:
            return False
        return True

    def write(self, name: str, array: Any) -> Any:
        return pb_utils.Tensor(name, array)


def _zeros(port: Any, size: int) -> Any:
    """Zeros for an input, with this size for every axis that may have any."""
    shape = [side.get_length() if side.is_static else size for side in port.get_partial_shape()]
    return np.zeros(shape, port.get_element_type().to_dtype())
