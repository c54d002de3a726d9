"""Tensors as Triton names and types them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# NVIDIA's libtorch backend matches an input by the name of forward()'s argument, and an output by
# `<name>__<index>`; the other formats take whatever names they are given. These satisfy all.
NETWORK_INPUT = "INPUT__0"
NETWORK_OUTPUT = "OUTPUT__0"
IMAGE_INPUT = "IMAGE"
TEXT_INPUT = "TEXT"
PROBABILITIES_OUTPUT = "PROBABILITIES"
BOXES_OUTPUT, SCORES_OUTPUT, CLASSES_OUTPUT, COUNT_OUTPUT = "BOXES", "SCORES", "CLASSES", "COUNT"
MASK_OUTPUT = "MASK"
EMBEDDING_OUTPUT = "EMBEDDING"

DATA_TYPES: dict[str, str] = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "BF16": "bfloat16",
    "FP32": "float32",
    "FP64": "float64",
}
"""Triton's names of data types, without TYPE_ -> PyTorch's and NumPy's, which has no bfloat16. STRING is neither's."""
FLOATS = frozenset({"FP16", "BF16", "FP32", "FP64"})
ANY_SIZE = -1


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a model."""

    name: str
    data_type: str
    """A key of DATA_TYPES, or STRING."""
    shape: tuple[int, ...]
    """Without the batch axis, where the model has one; -1 is any size."""


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives, in the order of forward()'s arguments and of its results."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool = True
    """Whether every tensor has a batch axis before its `shape`."""

    def with_names(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Signature:
        """The same under other names, in the same order."""
        return replace(self, inputs=_named(self.inputs, inputs), outputs=_named(self.outputs, outputs))

    def by_position(self) -> Signature:
        """The same, named INPUT__0, INPUT__1, ... as what PyTorch runs needs it."""
        return self.with_names(
            tuple(f"INPUT__{number}" for number in range(len(self.inputs))),
            tuple(f"OUTPUT__{number}" for number in range(len(self.outputs))),
        )

    def __iter__(self) -> Iterator[TensorSpec]:
        return iter((*self.inputs, *self.outputs))


def _named(tensors: tuple[TensorSpec, ...], names: tuple[str, ...]) -> tuple[TensorSpec, ...]:
    return tuple(replace(tensor, name=name) for tensor, name in zip(tensors, names, strict=True))


def data_type_of(dtype: Any) -> str:
    """Triton's name of a torch or NumPy data type. Raises ValueError for what Triton does not know."""
    name = str(dtype).removeprefix("torch.")
    for triton, other in DATA_TYPES.items():
        if name == other:
            return triton
    raise ValueError(f"Triton has no data type for {name}")


def raw_bytes(tensor: torch.Tensor) -> bytes:
    """A tensor as Triton reads it of a file; NumPy has no bfloat16."""
    import torch

    whole = tensor.detach().cpu().contiguous()
    return bytes(whole.reshape(-1).view(torch.uint8).numpy().tobytes()) if whole.numel() else b""


def torch_type(data_type: str) -> torch.dtype:
    import torch

    found: torch.dtype = getattr(torch, DATA_TYPES[data_type])
    return found
