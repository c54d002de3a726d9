"""Networks that give vectors: some that are sound, and those that a build must refuse."""

import torch
from torch import nn

WIDTH = 16


class Small(nn.Module):
    """Features, their mean, a vector, and classes behind it, with a ReLU that works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, WIDTH, 3, stride=2, padding=1), nn.ReLU()
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.middle = nn.Linear(WIDTH, WIDTH)
        self.relu = nn.ReLU(inplace=True)
        self.classes = nn.Linear(WIDTH, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classes(self.relu(self.middle(self.avgpool(self.features(x)).flatten(1))))


class Unfollowed(Small):
    """torch.fx cannot follow a choice by what is computed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] != 3:
            raise ValueError("three channels")
        return super().forward(x)


class Alone(nn.Module):
    """A vector as it is: sums, without a mean, so that black gives zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, WIDTH, 5, stride=3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).relu().mean((2, 3))


class NotANumber(Alone):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * float("nan")


class OfTheBatch(Alone):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = super().forward(x)
        return rows - rows.mean(0)


class ByChance(Alone):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + torch.rand(1)


class TurnedWhenTraced(Alone):
    """Its artifact gives vectors of the right length in another order."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = super().forward(x)
        return rows.roll(1, 1) if torch.jit.is_tracing() else rows


class BlindWhenTraced(nn.Module):
    """Its vectors are nearly alike; its artifact gives one for all, of a cosine of nearly 1."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Alone()
        self.base = nn.Parameter(torch.full((WIDTH,), 1000.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.network(x)
        return self.base + (rows * 0 if torch.jit.is_tracing() else rows)


class Maps(Alone):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Tokens(Alone):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).flatten(2)
