"""TensorRT plans: the version in their header; tensors by the tensorrt package, where this machine has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from builder.exporters import tensorrt
from builder.exporters.interfaces import files
from builder.triton.interface import Interface, ToldTensor
from builder.triton.signature import data_type_of

KIND = "a TensorRT plan"
TAG = b"ftrt"
VERSION_AT, VERSION_END = 24, 28
"""Of the header's first form: major, minor, patch and build, a byte each."""


def interface(path: Path, package: Callable[[], Any] = tensorrt.imported) -> Interface:
    """Raises NetworkError."""
    head = files.head_of(path)
    if not head.startswith(TAG) or len(head) < VERSION_END:
        raise files.damaged(path, KIND)
    inputs, outputs = _tensors(path, package())
    return Interface(inputs, outputs, None, _version(head))


def _version(head: bytes) -> dict[str, str]:
    if any(head[4:8]):
        return {}  # a header of another form
    return {"tensorrt_version": ".".join(map(str, head[VERSION_AT : VERSION_END - 1]))}


def _tensors(path: Path, trt: Any) -> tuple[tuple[ToldTensor, ...] | None, tuple[ToldTensor, ...] | None]:
    """Inputs and outputs; None where there is no TensorRT, no GPU, or one that cannot read this plan."""
    if trt is None:
        return None, None
    try:
        engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(path.read_bytes())
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        taken = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        told = {name: _told(name, engine, trt) for name in names}
    except Exception:  # a plan for another GPU or version is for the build to refuse, with what TensorRT says
        return None, None
    return tuple(told[name] for name in taken), tuple(told[name] for name in names if name not in taken)


def _told(name: str, engine: Any, trt: Any) -> ToldTensor:
    form = engine.get_tensor_dtype(name)
    # NumPy has no bfloat16, and calls its own bool bool_.
    data_type = "BF16" if form == trt.DataType.BF16 else data_type_of(trt.nptype(form).__name__.rstrip("_"))
    return ToldTensor(name, data_type, tuple(int(size) for size in engine.get_tensor_shape(name)))
