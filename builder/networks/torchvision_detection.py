"""torchvision's detectors of torchvision.models.detection, by torchvision's own names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builder.data.recipe import PreprocessRecipe
from builder.networks import detectors
from builder.networks.torchvision_family import TorchvisionFamily

if TYPE_CHECKING:
    from torch import nn

YEARS = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": 2015,
    "fasterrcnn_mobilenet_v3_large_fpn": 2015,
    "fasterrcnn_resnet50_fpn": 2015,
    "fasterrcnn_resnet50_fpn_v2": 2015,
    "fcos_resnet50_fpn": 2019,
    "retinanet_resnet50_fpn": 2017,
    "retinanet_resnet50_fpn_v2": 2017,
    "ssd300_vgg16": 2015,
    "ssdlite320_mobilenet_v3_large": 2018,
}


def _recipe(module: nn.Module, preset: Any) -> PreprocessRecipe:
    """Its weights' preset leaves the sizes to the module."""
    del preset
    return detectors.recipe(module)


FAMILY = TorchvisionFamily("detection", YEARS, _recipe)
