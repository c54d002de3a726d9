"""Segmentation networks that the tests build: some that are sound, and those that a build must refuse."""

import torch
from torch import nn


class Small(nn.Module):
    """Logits of a quarter of the input's size."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, classes, 1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class AsDict(Small):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": super().forward(x), "aux": x}


class Numbers(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).argmax(1)


class OneChannel(Small):
    def __init__(self) -> None:
        super().__init__(1)


class TooMany(Small):
    def __init__(self) -> None:
        super().__init__(257)


class Nothing(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) / 0


class OfTheBatch(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = super().forward(x)
        return found - found.mean((0, 2, 3), keepdim=True) * 2


class AnotherOneWhenTraced(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = super().forward(x)
        return found.flip(1) if torch.jit.is_tracing() else found
