"""The module that is exported: a network with its softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def as_classifier(network: nn.Module, activation: str) -> nn.Module:
    """float32 [B, C, H, W] -> probabilities [B, classes]; its argument's name is the served input's.

    Whatever the network computes its scores in, what is served is float32, as the config says.
    """
    from torch import nn

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.activation = nn.Softmax(dim=1) if activation == "softmax" else nn.Identity()

        def forward(self, INPUT__0):  # type: ignore[no-untyped-def]
            return self.activation(self.network(INPUT__0).float())

    return Classifier().eval()
