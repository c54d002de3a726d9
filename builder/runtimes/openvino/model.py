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

PROPERTIES = ("INFERENCE_NUM_THREADS", "NUM_STREAMS", "PERFORMANCE_HINT", "INFERENCE_PRECISION_HINT")


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        if args["model_instance_kind"] == "GPU":
            raise pb_utils.TritonModelException("the openvino backend runs on CPUs alone; use KIND_CPU")
        config = json.loads(args["model_config"])
        self._input = config["input"][0]["name"]
        self._output = config["output"][0]["name"]
        filename = config["default_model_filename"] or "model.xml"
        path = os.path.join(args["model_repository"], args["model_version"], filename)
        compiled = openvino.Core().compile_model(path, "CPU", self._properties(config["parameters"]))
        self._request = compiled.create_infer_request()
        self._index = [output.get_any_name() for output in compiled.outputs].index(self._output)

    @staticmethod
    def _properties(parameters: dict[str, dict[str, str]]) -> dict[str, str]:
        given = {key: parameters[key]["string_value"] for key in PROPERTIES if key in parameters}
        if parameters.get("HINT_BF16", {}).get("string_value", "").upper() == "YES":
            given["INFERENCE_PRECISION_HINT"] = "bf16"
        # Each instance would pin its threads to the first cores, all of them to the same.
        return given | {"ENABLE_CPU_PINNING": "NO"}

    def execute(self, requests: list[Any]) -> list[Any]:
        tensors = [pb_utils.get_input_tensor_by_name(r, self._input) for r in requests]
        parts = [np.from_dlpack(tensor) for tensor in tensors]
        batch = parts[0] if len(parts) == 1 else np.concatenate(parts)
        # Both are shared, not copied: the answers below are written out before the next call.
        outputs = self._request.infer({self._input: batch}, share_inputs=True, share_outputs=True)[self._index]
        splits = np.cumsum([len(part) for part in parts])[:-1]
        return [self._response(rows) for rows in np.split(outputs, splits)]

    def _response(self, rows: Any) -> Any:
        return pb_utils.InferenceResponse([pb_utils.Tensor(self._output, rows)])
