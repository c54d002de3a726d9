"""A small FCOS that finds circles, squares and triangles, trained from nothing."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead

CLASSES = ["__background__", "circle", "square", "triangle"]
SIDE = 96
STRIDE = 8
CHANNELS = 64


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Backbone(nn.Module):
    """float32 [B, 3, H, W] -> [B, CHANNELS, H / STRIDE, W / STRIDE], with what a coarser map sees added."""

    out_channels = CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            convolution(3, 16, 2),
            convolution(16, 32, 2),
            convolution(32, 32),
            convolution(32, CHANNELS, 2),
            convolution(CHANNELS, CHANNELS),
        )
        self.coarse = nn.Sequential(convolution(CHANNELS, CHANNELS, 2), convolution(CHANNELS, CHANNELS))

    def forward(self, pixels: Tensor) -> Tensor:
        fine = self.fine(pixels)
        wide: Tensor = nn.functional.interpolate(self.coarse(fine), scale_factor=2.0, mode="nearest")
        return fine + wide


def shapes() -> FCOS:
    head = FCOSHead(CHANNELS, num_anchors=1, num_classes=len(CLASSES), num_convs=2)
    # ReLU makes distances of what this gives: none may start at nothing, or it would stay there.
    nn.init.constant_(head.regression_head.bbox_reg.bias, 2.0)
    return FCOS(
        Backbone(),
        len(CLASSES),
        fixed_size=(SIDE, SIDE),
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.25, 0.25, 0.25],
        anchor_generator=AnchorGenerator(((STRIDE,),), ((1.0,),)),
        head=head,
        score_thresh=0.05,
        detections_per_img=20,
    )
