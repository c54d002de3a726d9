"""Encoded images, and the probabilities that the artifact gives for them."""

from __future__ import annotations

from collections.abc import Iterator

from builder.steps import STEPS
from builder.tasks.images import photos
from builder.tasks.images.preprocessing import STEP
from builder.tasks.task import Entry, Example, Reference
from builder.triton.signature import IMAGE_INPUT, PROBABILITIES_OUTPUT
from builder.types import Predict


def examples(entry: Entry, reference: Reference, predict: Predict) -> Iterator[Example]:
    """Photos of this package; one of the user's if the recipe refuses these."""
    import torch

    del entry
    recipe = reference.details.recipe
    step = STEPS[STEP].function(recipe)
    ((given,), (scores,)) = reference.signature.inputs, reference.signature.outputs
    for image in photos.accepted(recipe, reference.details.files):
        pixels = torch.as_tensor(step(image)).unsqueeze(0)
        yield Example({IMAGE_INPUT: image}, {PROBABILITIES_OUTPUT: predict({given.name: pixels})[scores.name].clone()})
