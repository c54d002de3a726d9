"""A small SSD that finds circles, squares and triangles, on a few residual blocks, trained from nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

CLASSES = ["__background__", "circle", "square", "triangle"]
SIDE = 128
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.short = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        return (self.body(features) + self.short(features)).relu()


class Backbone(nn.Module):
    """Three maps, of an eighth, a sixteenth and a thirty-second of the picture's side."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(), Block(24, 32, 2)
        )
        self.stages = nn.ModuleList([Block(32, 64, 2), Block(64, 128, 2), Block(128, 128, 2)])
        self.out_channels = [64, 128, 128]

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        features = self.stem(pixels)
        maps = {}
        for number, stage in enumerate(self.stages):
            features = stage(features)
            maps[str(number)] = features
        return maps


class Raw(SSD):
    """The same network before it chooses: boxes as corners in pixels of the input, and logits of all classes."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        maps = list(self.backbone(pixels).values())
        found = self.head(maps)
        return self.corners(found["bbox_regression"], maps), found["cls_logits"]

    def corners(self, offsets: Tensor, maps: list[Tensor]) -> Tensor:
        """What `box_coder.decode` does, of a batch as a whole."""
        anchors = self.anchors(maps).to(offsets)
        size = anchors[:, 2:] - anchors[:, :2]
        middle = anchors[:, :2] + size / 2
        wx, wy, ww, wh = self.box_coder.weights
        centre = offsets[..., :2] / offsets.new_tensor([wx, wy]) * size + middle
        grown = (offsets[..., 2:] / offsets.new_tensor([ww, wh])).clamp(max=self.box_coder.bbox_xform_clip)
        half = grown.exp() * size / 2
        return torch.cat((centre - half, centre + half), -1)

    def anchors(self, maps: list[Tensor]) -> Tensor:
        images = ImageList(maps[0].new_zeros(1, 3, SIDE, SIDE), [(SIDE, SIDE)])
        return self.anchor_generator(images, maps)[0]


def shapes() -> SSD:
    """The network that is trained; it chooses its detections itself."""
    return SSD(**parts())


def raw() -> Raw:
    """The network that is served, with the same weights: the server chooses."""
    return Raw(**parts())


def parts() -> dict[str, object]:
    # Shapes are about as wide as high, so squares of two sizes at each place are enough.
    return {
        "backbone": Backbone(),
        "anchor_generator": DefaultBoxGenerator([[], [], []], scales=[0.16, 0.27, 0.42, 0.6]),
        "size": (SIDE, SIDE),
        "num_classes": len(CLASSES),
        "image_mean": MEAN,
        "image_std": STD,
        "score_thresh": 0.05,
        "detections_per_img": 20,
    }
