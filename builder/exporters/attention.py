"""Attention over any number of axes, said over four: PyTorch's ONNX exporter takes no other."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

AXES = 4
"""Batch, heads, tokens, channels."""


def over_four_axes() -> AbstractContextManager[Any]:
    """Within it, `scaled_dot_product_attention` is asked with tensors of four axes, and gives what it would give."""
    from torch.nn.functional import scaled_dot_product_attention as attention
    from torch.overrides import TorchFunctionMode

    class OverFourAxes(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            del types
            return _attended(*args, **kwargs or {}) if func is attention else func(*args, **kwargs or {})

    def _attended(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        *others: Any,
        **more: Any,
    ) -> torch.Tensor:
        if query.dim() == AXES or more.get("enable_gqa"):
            return attention(query, key, value, attn_mask, *others, **more)
        leading = query.shape[:-2]
        to_four = _four(leading)
        mask = attn_mask if attn_mask is None or attn_mask.dim() == 2 else to_four(_as_wide(attn_mask, leading))
        found = attention(to_four(query), to_four(key), to_four(value), mask, *others, **more)
        return found.reshape(*leading, *found.shape[-2:])

    return OverFourAxes()


def _four(leading: torch.Size) -> Callable[[torch.Tensor], torch.Tensor]:
    """Axes before the last two become a batch and heads: the first stays alone, since it may be of any size."""

    def four(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.reshape(*(leading[:1] or (1,)), math.prod(leading[1:]), *tensor.shape[-2:])

    return four


def _as_wide(mask: torch.Tensor, leading: torch.Size) -> torch.Tensor:
    return mask.expand(*leading, *mask.shape[-2:])
