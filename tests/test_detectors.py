"""torchvision's detectors, taken apart: every one finds what torchvision's own pipeline finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import detection as models
from torchvision.models import list_models
from torchvision.ops import batched_nms
from torchvision.transforms.functional import to_tensor

from builder import networks
from builder.data.recipe import PreprocessRecipe, RecipeOverrides
from builder.errors import ManifestError
from builder.networks import NETWORKS, detectors
from builder.networks.detectors import Detector
from builder.types import NetworkRequest, WeightsSource

SAMPLES = Path(detectors.__file__).parents[2] / "samples"
PHOTOS = [Image.open(SAMPLES / f"{name}.jpg").convert("RGB") for name in ("chelsea", "rocket")]
NAMES = NETWORKS["torchvision_detection"].names()
LISTED = [name for name in list_models(module=models) if "mask" not in name and "keypoint" not in name]
SHORT = {"ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn", "fcos_resnet50_fpn"}
SHARPENED = {"rpn.head.cls_logits.weight": 20.0, "cls_score.weight": 3.0}
"""Weights at random tell all classes alike; what is found then is a matter of chance."""


def made(name: str) -> nn.Module:
    source = WeightsSource("random", "random")
    return networks.find(name).make(NetworkRequest(name, source, {"num_classes": 5}, SAMPLES)).module


def lively(module: nn.Module, pictures: list[torch.Tensor]) -> nn.Module:
    """With statistics of batch normalisation that fit its weights, or nothing would come through all its layers."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.train()
            part.reset_running_stats()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            factor = next((factor for end, factor in SHARPENED.items() if name.endswith(end)), None)
            if factor is None and name.endswith("cls_logits.bias"):
                parameter.zero_()
            parameter.mul_(factor or 1.0)
        for _ in range(3):
            module(pictures)
    return module.eval()


def recipe_of(module: nn.Module) -> PreprocessRecipe:
    own = detectors.recipe(module)
    if own.letterbox is None:
        return own
    return own.overridden(RecipeOverrides.model_validate({"letterbox": 128}))


def found(parts: Detector, photo: Image.Image) -> tuple[torch.Tensor, ...]:
    """Boxes in pixels of the network's input, clipped to the picture's part of it, with thresholds and NMS."""
    placed = parts.recipe.placement(*photo.size)
    rows = torch.tensor([list(placed)], dtype=torch.int32)
    pixels = parts.recipe.reference_transform()(photo).unsqueeze(0)
    with torch.no_grad():
        given = parts.head(pixels, rows) if parts.takes_placement else parts.head(pixels)
        boxes, scores, classes = (tensor[0] for tensor in parts.outputs(given))
    most = torch.tensor([placed.width, placed.height] * 2)
    boxes = boxes.clamp(min=0).minimum(most)
    kept = scores > parts.score_threshold
    boxes, scores, classes = boxes[kept], scores[kept], classes[kept]
    chosen = batched_nms(boxes, scores, classes, parts.iou_threshold)[: parts.max_detections]
    scale = torch.tensor([photo.width / placed.width, photo.height / placed.height] * 2)
    return boxes[chosen] * scale, scores[chosen], classes[chosen]


def test_all_of_torchvisions_that_give_boxes_alone_are_there() -> None:
    assert sorted(NAMES) == sorted(LISTED)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in SHORT else [pytest.mark.slow]) for name in NAMES]
)
def test_parts_find_what_the_whole_finds(name: str) -> None:
    pictures = [to_tensor(photo) for photo in PHOTOS]
    module = made(name)
    parts: Any = detectors.detector(module, recipe_of(module), score_threshold=0.1)
    lively(module, pictures)
    with torch.no_grad():
        whole = parts.own(pictures)
    for photo, expected in zip(PHOTOS, whole, strict=True):
        boxes, scores, classes = found(parts, photo)
        assert len(scores) > 0
        # Of two that overlap, with equal scores, either may be left: few, and all others are the same to the pixel.
        alike = expected["labels"][:, None] == classes[None]
        corners = (expected["boxes"][:, None] - boxes[None]).abs().amax(2)
        differing = (expected["scores"][:, None] - scores[None]).abs()
        same = alike & (corners < 0.5) & (differing < 1e-4)
        assert same.any(1).float().mean() >= 0.95
        assert same.any(0).float().mean() >= 0.95


def test_networks_that_give_more_than_boxes_are_refused_with_the_reason() -> None:
    module = models.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
    with pytest.raises(ManifestError, match="MaskRCNN gives more than boxes"):
        detectors.detector(module, detectors.recipe(module))


def test_other_networks_are_none_of_torchvisions_detectors() -> None:
    assert detectors.detector(nn.Identity(), PreprocessRecipe(channels=3, resize=(64, 64), antialias=False)) is None
