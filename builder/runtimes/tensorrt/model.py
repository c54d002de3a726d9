"""Triton's `tensorrt` backend for the embedded server, where the Python package tensorrt is.

Lives inside the server's Python stub, so it imports nothing of this project. It reads the same
`config.pbtxt` as NVIDIA's C++ backend of that name: a plan for each compute capability.
"""

import json
import os
from typing import Any

import tensorrt
import torch
import torch.utils.dlpack
import triton_python_backend_utils as pb_utils


def plan_filename(config: dict[str, Any], capability: str) -> str:
    """The file for a `major.minor` capability; another one's plan would not load."""
    filenames: dict[str, str] = config.get("cc_model_filenames") or {}
    if capability not in filenames:
        have = ", ".join(sorted(filenames)) or "none"
        raise pb_utils.TritonModelException(
            f"there is no plan for GPUs of compute capability {capability}; there are plans for {have}"
        )
    return filenames[capability]


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        if args["model_instance_kind"] != "GPU":
            raise pb_utils.TritonModelException("TensorRT plans run on GPUs alone; KIND_GPU is needed")
        config = json.loads(args["model_config"])
        self._input = config["input"][0]["name"]
        self._output = config["output"][0]["name"]
        self._device = torch.device(f"cuda:{args['model_instance_device_id']}")
        major, minor = torch.cuda.get_device_capability(self._device)
        filename = plan_filename(config, f"{major}.{minor}")
        torch.cuda.set_device(self._device)  # TensorRT loads a plan onto the current one
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._load(os.path.join(args["model_repository"], args["model_version"], filename))

    def _load(self, path: str) -> None:
        self._runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
        with open(path, "rb") as file:
            self._engine = self._runtime.deserialize_cuda_engine(file.read())
        if self._engine is None:
            raise pb_utils.TritonModelException(
                f"TensorRT {tensorrt.__version__} cannot load {os.path.basename(path)}; its log says why"
            )
        self._context = self._engine.create_execution_context()

    def execute(self, requests: list[Any]) -> list[Any]:
        tensors = [pb_utils.get_input_tensor_by_name(r, self._input) for r in requests]
        parts = [torch.utils.dlpack.from_dlpack(tensor) for tensor in tensors]
        batch = parts[0] if len(parts) == 1 else torch.cat(parts)
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            outputs = self._run(batch.to(self._device).contiguous()).cpu()
        return [self._response(rows) for rows in outputs.split([len(part) for part in parts])]

    def _run(self, batch: torch.Tensor) -> Any:
        """Starts the plan; the copy to the CPU, on the same stream, waits for it."""
        if not self._context.set_input_shape(self._input, tuple(batch.shape)):
            raise pb_utils.TritonModelException(f"the plan takes no batch of {len(batch)}")
        outputs = torch.empty(tuple(self._context.get_tensor_shape(self._output)), device=batch.device)
        self._context.set_tensor_address(self._input, batch.data_ptr())
        self._context.set_tensor_address(self._output, outputs.data_ptr())
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise pb_utils.TritonModelException(f"the plan failed on a batch of {len(batch)}")
        return outputs

    def _response(self, rows: torch.Tensor) -> Any:
        tensor = pb_utils.Tensor.from_dlpack(self._output, rows.contiguous())
        return pb_utils.InferenceResponse([tensor])
