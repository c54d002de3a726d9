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
from named_tensors import Given, NamedTensorsModel, refuse_types

TYPES = {
    "BOOL": torch.bool,
    "UINT8": torch.uint8,
    "INT8": torch.int8,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "FP16": torch.float16,
    "BF16": torch.bfloat16,
    "FP32": torch.float32,
}
"""What plans can take and give."""


def plan_filename(config: dict[str, Any], capability: str) -> str:
    """The file for a `major.minor` capability; another one's plan would not load."""
    filenames: dict[str, str] = config.get("cc_model_filenames") or {}
    if capability not in filenames:
        have = ", ".join(sorted(filenames)) or "none"
        raise pb_utils.TritonModelException(
            f"there is no plan for GPUs of compute capability {capability}; there are plans for {have}"
        )
    return filenames[capability]


class TritonPythonModel(NamedTensorsModel):
    def initialize(self, args: dict[str, str]) -> None:
        if args["model_instance_kind"] != "GPU":
            raise pb_utils.TritonModelException("TensorRT plans run on GPUs alone; KIND_GPU is needed")
        config = json.loads(args["model_config"])
        self.take_names(config)
        refuse_types(self, {*self.inputs.values(), *self.outputs.values()} - set(TYPES), "plans have no such tensors")
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

    def read(self, tensor: Any, data_type: str) -> Any:
        if data_type == "BOOL":
            return torch.from_numpy(tensor.as_numpy())
        return torch.utils.dlpack.from_dlpack(tensor)

    def join(self, arrays: list[Any]) -> Any:
        return torch.cat(arrays)

    def compute(self, given: Given) -> list[Any]:
        """Starts the plan; the copies to the CPU, on the same stream, wait for it."""
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            tensors = {name: tensor.to(self._device).contiguous() for name, tensor in given.items()}
            for name, tensor in tensors.items():
                if not self._context.set_input_shape(name, tuple(tensor.shape)):
                    raise ValueError(f"the plan takes no {name} of {list(tensor.shape)}")
            outputs = {name: self._room(name) for name in self.outputs}
            for name, tensor in (tensors | outputs).items():
                self._context.set_tensor_address(name, tensor.data_ptr())
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise ValueError(f"the plan failed on {', '.join(f'{n} of {list(t.shape)}' for n, t in given.items())}")
            return [output.cpu() for output in outputs.values()]

    def _room(self, name: str) -> torch.Tensor:
        shape = tuple(self._context.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise ValueError(f"the sizes of {name} depend on what is computed")
        return torch.empty(shape, dtype=TYPES[self.outputs[name]], device=self._device)

    def write(self, name: str, array: Any) -> Any:
        if array.dtype == torch.bool:
            return pb_utils.Tensor(name, array.numpy())
        return pb_utils.Tensor.from_dlpack(name, array.contiguous())
