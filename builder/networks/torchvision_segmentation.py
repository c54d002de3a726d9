"""Every segmenter of torchvision.models.segmentation, by torchvision's own names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builder.data.recipe import PreprocessRecipe
from builder.networks.torchvision_family import TorchvisionFamily

if TYPE_CHECKING:
    from torch import nn

YEARS = {
    "deeplabv3_mobilenet_v3_large": 2017,
    "deeplabv3_resnet50": 2017,
    "deeplabv3_resnet101": 2017,
    "fcn_resnet50": 2014,
    "fcn_resnet101": 2014,
    "lraspp_mobilenet_v3_large": 2019,
}


def _recipe(module: nn.Module, preset: Any) -> PreprocessRecipe:
    """torchvision's own resizes the shorter side and leaves the other free; a batch has one size."""
    del module
    (side,) = preset.resize_size
    return PreprocessRecipe(channels=3, resize=(side, side), mean=tuple(preset.mean), std=tuple(preset.std))


FAMILY = TorchvisionFamily("segmentation", YEARS, _recipe, unused=("aux_classifier.",))
