"""Named tensors as a head takes them and gives them: by their place in the signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from builder.errors import ExportError
from builder.triton.signature import FLOATS, Signature

if TYPE_CHECKING:
    import torch

NOT_NUMPYS = ("BF16", "STRING")
"""NumPy has no bfloat16, and PyTorch no text."""


def in_order(signature: Signature, tensors: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The inputs, in forward()'s order."""
    return tuple(tensors[tensor.name] for tensor in signature.inputs)


def named(signature: Signature, result: Any) -> dict[str, Any]:
    """What was computed, under the names of the signature. Raises ValueError where the numbers of both differ."""
    results: Sequence[Any]
    if isinstance(result, Mapping):
        results = list(result.values())
    else:
        results = result if isinstance(result, list | tuple) else (result,)
    return dict(zip((tensor.name for tensor in signature.outputs), results, strict=True))


def reads_numbers(signature: Signature) -> bool:
    """Whether whole numbers come in, such as tokens: masks are among them, whose -inf no int8 has a range for, so that
    of such networks what has weights alone is quantised."""
    return any(tensor.data_type not in FLOATS for tensor in signature.inputs)


def require_numpys(signature: Signature) -> None:
    """Raise ExportError for tensors that a format whose runtime speaks NumPy cannot be given."""
    for tensor in signature:
        if tensor.data_type in NOT_NUMPYS:
            raise ExportError(
                f"`{tensor.name}` is {tensor.data_type}, which Python's side of this format cannot hold; declare it as "
                "FP32, which loses nothing, or take `format: torchscript`"
            )
