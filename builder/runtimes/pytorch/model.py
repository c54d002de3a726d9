"""Triton's `pytorch` backend for the embedded server: runs TorchScript files and AOTInductor packages.

Lives inside the server's Python stub, so it imports nothing of this project. It reads the same
`config.pbtxt` as NVIDIA's C++ backend of that name and honours the same parameters.
"""

import json
import os
import warnings
from typing import Any

import torch
import torch.utils.dlpack
import triton_python_backend_utils as pb_utils
from named_tensors import Given, NamedTensorsModel, by_place, refuse_types


def axes(text: str) -> list[list[tuple[str, int]]]:
    """`ids.1=mask.1 ...`: groups of axes, each a tensor's name and the axis' number."""
    groups = [[place.rpartition(".") for place in group.split("=")] for group in text.split()]
    return [[(name, int(axis)) for name, _, axis in group] for group in groups]


class TritonPythonModel(NamedTensorsModel):
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self._set_threads(config["parameters"])
        self.take_names(config)
        refuse_types(self, {"STRING"}, "PyTorch has no tensors of text")
        on_gpu = args["model_instance_kind"] == "GPU"
        self._device = torch.device(f"cuda:{args['model_instance_device_id']}" if on_gpu else "cpu")
        filename = config["default_model_filename"] or "model.pt"
        path = os.path.join(args["model_repository"], args["model_version"], filename)
        if config["parameters"].get("precision", {}).get("string_value") == "fp32":
            # On GPUs convolutions would be computed with 10 bits of mantissa, unlike what was verified.
            torch.backends.cudnn.allow_tf32 = False
        if "torchvision" in config["parameters"].get("operator_libraries", {}).get("string_value", "").split():
            import torchvision  # noqa: F401  # its import is what registers the operators

        self._module = self._load(path)
        self._arguments = by_place(self.inputs, self._known())
        self._equal = axes(config["parameters"].get("equal_sizes", {}).get("string_value", ""))

    def _load(self, path: str) -> Any:
        if path.endswith(".pt2"):
            # Its platform, torch_aoti, is told by the file: this server knows no such platform.
            index = self._device.index if self._device.type == "cuda" else -1
            return torch._inductor.aoti_load_package(path, device_index=index)
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated; the log need not say so
        return torch.jit.load(path, map_location=self._device).eval()  # type: ignore[no-untyped-call]

    def _known(self) -> list[str]:
        """The names of forward()'s arguments, where the file says them."""
        if not isinstance(self._module, torch.jit.ScriptModule):
            return []
        forward: Any = self._module.forward
        return [argument.name for argument in forward.schema.arguments[1:]]

    @staticmethod
    def _set_threads(parameters: dict[str, dict[str, str]]) -> None:
        # Process-wide in PyTorch; safe here because each instance is a process of its own.
        if threads := parameters.get("INTRA_OP_THREAD_COUNT"):
            torch.set_num_threads(int(threads["string_value"]))
        if threads := parameters.get("INTER_OP_THREAD_COUNT"):
            torch.set_num_interop_threads(int(threads["string_value"]))

    def read(self, tensor: Any, data_type: str) -> Any:
        if data_type == "BOOL":
            return torch.from_numpy(tensor.as_numpy())
        return torch.utils.dlpack.from_dlpack(tensor)

    def join(self, arrays: list[Any]) -> Any:
        return torch.cat(arrays)

    def compute(self, given: Given) -> list[Any]:
        self._require_equal(given)
        arguments = [given[name].to(self._device) if name in given else None for name in self._arguments]
        while arguments and arguments[-1] is None:  # what forward() has a default for
            arguments.pop()
        with torch.inference_mode():
            return [output.cpu() for output in self._in_order(self._module(*arguments))]

    def _require_equal(self, given: Given) -> None:
        """Compiled packages do not look, and would read what lies behind the smaller one."""
        for group in self._equal:
            sizes = {f"{name}.{axis}": given[name].shape[axis] for name, axis in group}
            if len(set(sizes.values())) > 1:
                told = ", ".join(f"{axis} is {size}" for axis, size in sizes.items())
                raise ValueError(f"these sizes, named by tensor and axis, must be equal: {told}")

    def _in_order(self, result: Any) -> list[Any]:
        """The outputs as the config names them: by name where the module names its own, else by place."""
        if isinstance(result, dict) and set(self.outputs) <= set(result):
            return [result[name] for name in self.outputs]
        results = list(result.values()) if isinstance(result, dict) else result
        results = results if isinstance(results, list | tuple) else [results]
        places = by_place(self.outputs, [])
        if len(results) < len(places):
            raise ValueError(f"the module gives {len(results)} tensors, and the config names {', '.join(self.outputs)}")
        found = dict(zip(places, results, strict=False))
        return [found[name] for name in self.outputs]

    def write(self, name: str, array: Any) -> Any:
        if array.dtype == torch.bool:
            return pb_utils.Tensor(name, array.numpy())
        return pb_utils.Tensor.from_dlpack(name, array.contiguous())
