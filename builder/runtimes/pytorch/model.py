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


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self._set_threads(config["parameters"])
        self._input = config["input"][0]["name"]
        self._output = config["output"][0]["name"]
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

    def _load(self, path: str) -> Any:
        if path.endswith(".pt2"):
            # Its platform, torch_aoti, is told by the file: this server knows no such platform.
            index = self._device.index if self._device.type == "cuda" else -1
            return torch._inductor.aoti_load_package(path, device_index=index)
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated; the log need not say so
        return torch.jit.load(path, map_location=self._device).eval()  # type: ignore[no-untyped-call]

    @staticmethod
    def _set_threads(parameters: dict[str, dict[str, str]]) -> None:
        # Process-wide in PyTorch; safe here because each instance is a process of its own.
        if threads := parameters.get("INTRA_OP_THREAD_COUNT"):
            torch.set_num_threads(int(threads["string_value"]))
        if threads := parameters.get("INTER_OP_THREAD_COUNT"):
            torch.set_num_interop_threads(int(threads["string_value"]))

    def execute(self, requests: list[Any]) -> list[Any]:
        tensors = [pb_utils.get_input_tensor_by_name(r, self._input) for r in requests]
        parts = [torch.utils.dlpack.from_dlpack(tensor) for tensor in tensors]
        batch = parts[0] if len(parts) == 1 else torch.cat(parts)
        with torch.inference_mode():
            outputs = self._module(batch.to(self._device)).cpu()
        return [self._response(rows) for rows in outputs.split([len(part) for part in parts])]

    def _response(self, rows: torch.Tensor) -> Any:
        tensor = pb_utils.Tensor.from_dlpack(self._output, rows.contiguous())
        return pb_utils.InferenceResponse([tensor])
