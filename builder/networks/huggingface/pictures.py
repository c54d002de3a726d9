"""Networks that give scores of pictures, or of their pixels: what stands around transformers' modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.networks.huggingface.loading import Loaded

if TYPE_CHECKING:
    import torch
    from torch import nn


def module(loaded: Loaded) -> nn.Module:
    """float32 [B, 3, H, W] to logits: [B, C] of a classifier, [B, C, h, w] of a segmenter."""
    import torch
    from torch import nn

    class Pictures(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = loaded.module

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.network(pixel_values=pixels)["logits"])

    return Pictures().eval()
