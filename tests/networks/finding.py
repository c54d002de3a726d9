"""Small detectors that the tests build: both layouts, and those that a build must refuse."""

import torch
from torch import nn

SIDE, CELL = 64, 8


class Grid(nn.Module):
    """A box and the scores of three classes for each cell of a picture of 64x64."""

    def __init__(self, classes: int = 3, gain: float = 6.0) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 24, CELL, stride=CELL), nn.ReLU())
        self.boxes, self.scores = nn.Conv2d(24, 4, 1), nn.Conv2d(24, classes, 1)
        self.gain = gain
        at = torch.arange(CELL // 2, SIDE, CELL, dtype=torch.float32)
        self.register_buffer("centres", torch.stack(torch.meshgrid(at, at, indexing="xy")).flatten(1), False)

    def parts(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes [B, 4, N], centre and size in pixels, and logits [B, C, N]."""
        found = self.features(x)
        moved = self.boxes(found).flatten(2).tanh()
        boxes = torch.cat((self.centres + 4 * moved[:, :2], 14 + 6 * moved[:, 2:]), 1)
        logits = self.scores(found).flatten(2)
        return boxes, self.gain * (logits - 0.3)


class Yolo(Grid):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        boxes, logits = self.parts(x)
        return torch.cat((boxes, logits.sigmoid()), 1)


class Logits(Grid):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat(self.parts(x), 1)


class Corners(Grid):
    """Shares of the input, and logits with a background before the classes; the scores come first."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        boxes, logits = self.parts(x)
        begin, end = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
        return logits.transpose(1, 2), torch.cat((begin, end), 1).transpose(1, 2) / SIDE


class Transposed(Yolo):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).transpose(1, 2)


class NotANumber(Yolo):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = super().forward(x)
        return torch.where(found > 0.5, torch.full_like(found, torch.nan), found)


class InCompany(Yolo):
    """Its answers depend on the rest of the batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x - x.mean(0))


def known() -> nn.Module:
    """One that brings its weights along, so that it is held as trained ones are."""
    torch.manual_seed(0)
    return Yolo()


def in_company() -> nn.Module:
    torch.manual_seed(0)
    return InCompany()


def known_corners() -> nn.Module:
    torch.manual_seed(0)
    return Corners(5)
