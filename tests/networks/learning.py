"""Networks that do something else while they train."""

from typing import Any

import torch
from torch import nn


class Head(nn.Module):
    """Its last normalisation has one value of each image."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, num_classes)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.norm(self.conv(x).relu().mean((2, 3))))


class Noted(Head):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.head = Versioned(4, num_classes)


class Versioned(nn.Linear):
    def get_extra_state(self) -> dict[str, int]:
        return {"version": 2}


class Auxiliary(Head):
    """Two outputs more while it trains, one of which is none of scores."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.auxiliary = nn.Linear(4, num_classes)

    def forward(self, x: torch.Tensor) -> Any:
        features = self.norm(self.conv(x).relu().mean((2, 3)))
        scores = self.head(features)
        return (scores, self.auxiliary(features), features) if self.training else scores


class Named(Auxiliary):
    def forward(self, x: torch.Tensor) -> Any:
        given = super().forward(x)
        return {"aux": given[1], "logits": given[0], "hidden": None} if self.training else given


class Featuring(Auxiliary):
    """What the classes are scored by comes second."""

    def forward(self, x: torch.Tensor) -> Any:
        given = super().forward(x)
        return given[::-1] if self.training else given


class Failing(Head):
    def forward(self, x: torch.Tensor) -> Any:
        if self.training:
            return {}["no such key"]
        return super().forward(x)


class Overwriting(Head):
    """Gradients need what it overwrites."""

    def forward(self, x: torch.Tensor) -> Any:
        given = super().forward(x).exp()
        given += given.detach()
        return given.exp_()


class Squeezing(Head):
    """A batch of one loses its dimension."""

    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x).squeeze()
