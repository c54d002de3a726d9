"""One small detector of each of torchvision's classes that can be served, without pyramids where none is needed."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.ops import MultiScaleRoIAlign

SIDE, CLASSES, WIDTH = 64, 4, 32
LOOKS = {"fixed_size": (SIDE, SIDE), "image_mean": [0.5] * 3, "image_std": [0.25] * 3}


def layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU())


class One(nn.Sequential):
    """A single map, of an eighth of the picture's side."""

    out_channels = WIDTH

    def __init__(self) -> None:
        super().__init__(layer(3, 16, 2), layer(16, WIDTH, 2), layer(WIDTH, WIDTH, 2))


class Two(nn.Module):
    """Two maps, of an eighth and a sixteenth."""

    out_channels: int | list[int] = WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = One(), layer(WIDTH, WIDTH, 2)

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        fine = self.fine(pixels)
        return {"0": fine, "1": self.coarse(fine)}


class Columns(Two):
    """With the widths of each map, as SSD asks for them."""

    def __init__(self) -> None:
        super().__init__()
        self.out_channels = [WIDTH, WIDTH]


def ssd() -> nn.Module:
    boxes = DefaultBoxGenerator([[2], [2]], scales=[0.2, 0.4, 0.6])
    size, looks = (SIDE, SIDE), {key: value for key, value in LOOKS.items() if key != "fixed_size"}
    return SSD(Columns(), boxes, size, CLASSES, **looks)


def retinanet() -> nn.Module:
    boxes = AnchorGenerator(((12, 20), (28, 40)), ((0.5, 1.0), (0.5, 1.0)))
    return RetinaNet(Two(), CLASSES, anchor_generator=boxes, **LOOKS)


def fcos() -> nn.Module:
    return FCOS(One(), CLASSES, anchor_generator=AnchorGenerator(((8,),), ((1.0,),)), **LOOKS)


def faster_rcnn() -> nn.Module:
    boxes = AnchorGenerator(((12, 20), (28, 40)), ((0.5, 1.0), (0.5, 1.0)))
    pool = MultiScaleRoIAlign(["0", "1"], 3, 2)
    return FasterRCNN(
        Two(), CLASSES, rpn_anchor_generator=boxes, box_roi_pool=pool, rpn_post_nms_top_n_test=60, **LOOKS
    )
