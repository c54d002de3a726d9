"""Images as a classifier takes them: one tensor, under the name of its input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.data.images import Evaluation, Tensors, View
from builder.data.recipe import PreprocessRecipe
from builder.data.recipe.placing import Placement
from builder.types import Tensors as NamedTensors

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ImageSamples:
    """The evaluation images, as `types.Samples`: float32 [B, C, H, W]."""

    images: Evaluation
    input: str

    def __len__(self) -> int:
        return len(self.images)

    def name(self, number: int) -> str:
        return self.images.views[number].name

    def batches(self, size: int, count: int | None = None) -> Iterator[NamedTensors]:
        return ({self.input: batch} for batch in self.images.batches(size, count))


@dataclass(frozen=True)
class ImageCalibration:
    """Images for int8, as `types.Calibration`: float32 [1, C, H, W]."""

    images: Tensors
    input: str

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[NamedTensors]:
        return ({self.input: image} for image in self.images)


@dataclass(frozen=True)
class PlacedSamples:
    """The evaluation images and where they lie in the network's input, as `types.Samples`."""

    images: Evaluation
    input: str
    placement: str

    def __len__(self) -> int:
        return len(self.images)

    def name(self, number: int) -> str:
        return self.images.views[number].name

    def batches(self, size: int, count: int | None = None) -> Iterator[NamedTensors]:
        placements = iter(placed(view, self.images.recipe) for view in self.images.views[:count])
        for batch in self.images.batches(size, count):
            yield {self.input: batch, self.placement: _stacked([next(placements) for _ in batch])}


@dataclass(frozen=True)
class PlacedCalibration:
    """Images for int8 with their places, as `types.Calibration`."""

    images: Tensors
    input: str
    placement: str

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[NamedTensors]:
        for file, image in zip(self.images.files, self.images, strict=True):
            yield {self.input: image, self.placement: _stacked([placed(View(file), self.images.recipe)])}


def placed(view: View, recipe: PreprocessRecipe) -> Placement:
    """Where an evaluation image lies in the network's input."""
    width, height = view.file.decode(recipe).size
    return recipe.placement(width, height)


def _stacked(placements: list[Placement]) -> torch.Tensor:
    """int32 [B, 6]"""
    import torch

    return torch.tensor(placements, dtype=torch.int32)
