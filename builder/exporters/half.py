"""Half precisions inside a module, for the formats whose arithmetic is that of the module's tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

HALF_PRECISIONS = {"fp16": "float16", "bf16": "bfloat16"}


def in_precision(module: nn.Module, precision: str) -> nn.Module:
    """A classifier whose network computes in `precision`; what goes in and out, and the softmax, stay float32.

    The module's own network is converted, not a copy of it.
    """
    import torch
    from torch import nn

    if precision not in HALF_PRECISIONS:
        return module
    dtype = getattr(torch, HALF_PRECISIONS[precision])

    class HalfPrecision(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module.network.to(dtype)
            self.activation = module.activation

        def forward(self, INPUT__0):  # type: ignore[no-untyped-def]
            return self.activation(self.network(INPUT__0.to(dtype)).float())  # type: ignore[operator]

    return HalfPrecision().eval()
