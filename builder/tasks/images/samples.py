"""Images as a classifier takes them: one tensor, under the name of its input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from builder.data.images import Evaluation, Tensors
from builder.types import Tensors as NamedTensors


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
