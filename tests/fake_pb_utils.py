"""Triton's Python backend utilities, as far as the runtimes use them, for loading these into a process of tests."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

RUNTIMES = Path(__file__).parent.parent / "builder" / "runtimes"


class TritonModelException(Exception):
    pass


class TritonError:
    INVALID_ARG = 3

    def __init__(self, message: str, code: int = 0) -> None:
        self.message, self.code = message, code


class Tensor:
    """Of the server: an array by DLPack, or, of text, as NumPy has it."""

    def __init__(self, name: str, array: Any) -> None:
        self.name, self.array = name, array

    @staticmethod
    def from_dlpack(name: str, array: Any) -> Tensor:
        return Tensor(name, np.from_dlpack(array).copy())

    def as_numpy(self) -> Any:
        return self.array

    def __dlpack__(self, stream: Any = None) -> Any:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


class Request:
    def __init__(self, wanted: list[str], **arrays: Any) -> None:
        self.wanted, self.tensors = wanted, {name: Tensor(name, array) for name, array in arrays.items()}

    def requested_output_names(self) -> list[str]:
        return self.wanted


class InferenceResponse:
    def __init__(self, tensors: list[Tensor], error: TritonError | None = None) -> None:
        self.error = error and error.message
        # As the server: written out when all responses are there.
        self.tensors = {tensor.name: tensor for tensor in tensors}

    def arrays(self) -> dict[str, Any]:
        return {name: tensor.array for name, tensor in self.tensors.items()}


def _module() -> ModuleType:
    module = ModuleType("triton_python_backend_utils")
    for part in (TritonModelException, TritonError, Tensor, InferenceResponse):
        setattr(module, part.__name__, part)
    module.get_input_tensor_by_name = lambda request, name: request.tensors.get(name)  # type: ignore[attr-defined]
    return module


def _load(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def runtime(backend: str) -> Iterator[Any]:
    """The backend's model.py as a module, with what lies beside it in the server."""
    before = {name: sys.modules.get(name) for name in ("triton_python_backend_utils", "named_tensors")}
    sys.modules["triton_python_backend_utils"] = _module()
    sys.modules["named_tensors"] = _load(RUNTIMES / "named_tensors.py", "named_tensors")
    try:
        yield _load(RUNTIMES / backend / "model.py", f"runtime_{backend}")
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module:
                sys.modules[name] = module


def arguments(artifact: Path, config: dict[str, Any]) -> dict[str, str]:
    """What the server gives initialize(); the artifact lies in the folder of version 1."""
    whole = {"default_model_filename": artifact.name, "parameters": {}, "max_batch_size": 8} | config
    return {
        "model_config": json.dumps(whole),
        "model_repository": str(artifact.parent.parent),
        "model_version": artifact.parent.name,
        "model_instance_kind": "CPU",
        "model_instance_device_id": "0",
    }
