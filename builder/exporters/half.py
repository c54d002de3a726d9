"""Half precisions inside a module, for the formats whose arithmetic is that of the module's tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import torch
    from torch import nn

HALF_PRECISIONS = {"fp16": "float16", "bf16": "bfloat16"}


def in_precision(module: nn.Module, precision: str) -> nn.Module:
    """The head itself, whose network computes in `precision` from here on; what goes in and out stays as it was.

    What is no floating-point number, as token numbers are, reaches the network as it is.
    """
    import torch

    if precision in HALF_PRECISIONS:
        module.network = _in_half(cast("nn.Module", module.network), getattr(torch, HALF_PRECISIONS[precision]))
    return module.eval()


def _in_half(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    from torch import nn

    class HalfPrecision(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network.to(dtype)

        def forward(self, *tensors: torch.Tensor) -> Any:
            return self.network(*(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in tensors))

    return HalfPrecision()
