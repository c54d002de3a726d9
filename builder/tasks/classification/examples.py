"""Encoded images, and the probabilities that the artifact gives for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from builder.data.images import SAMPLES
from builder.steps import STEPS
from builder.tasks.classification.preprocessing import STEP
from builder.tasks.task import Entry, Example, Reference
from builder.triton.signature import IMAGE_INPUT, PROBABILITIES_OUTPUT
from builder.types import Predict

if TYPE_CHECKING:
    import torch

PHOTOS = ("chelsea.jpg", "rocket.jpg")


def examples(entry: Entry, reference: Reference, predict: Predict) -> Iterator[Example]:
    """Photos of this package, so that none of the user's is published; one of theirs if the recipe refuses these."""
    del entry
    step = STEPS[STEP].function(reference.details.recipe)
    ((given,), (scores,)) = reference.signature.inputs, reference.signature.outputs
    photos = [(SAMPLES / name).read_bytes() for name in PHOTOS]
    accepted = [(image, pixels) for image in photos if (pixels := _pixels(step, image)) is not None]
    if not accepted:
        image = reference.details.files[0].read()
        accepted = [(image, _batch(step, image))]
    for image, pixels in accepted:
        answer = predict({given.name: pixels})[scores.name].clone()
        yield Example({IMAGE_INPUT: image}, {PROBABILITIES_OUTPUT: answer})


def _pixels(step: Callable[[bytes], object], image: bytes) -> torch.Tensor | None:
    """None for what the recipe refuses, such as an image that is larger than its limits."""
    try:
        return _batch(step, image)
    except ValueError:
        return None


def _batch(step: Callable[[bytes], object], image: bytes) -> torch.Tensor:
    """float32 [1, C, H, W]"""
    import torch

    return torch.as_tensor(step(image)).unsqueeze(0)
