"""Requests that servers are held to: pictures whose detections are the same however the last digits fall."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from builder.repository import detections
from builder.repository.golden import TOLERANCES
from builder.steps import STEPS
from builder.steps.detections import DetectionSettings
from builder.tasks.detection.running import STEP
from builder.tasks.images import photos
from builder.tasks.task import Entry, Example, Reference
from builder.triton.signature import BOXES_OUTPUT, CLASSES_OUTPUT, COUNT_OUTPUT, IMAGE_INPUT, SCORES_OUTPUT
from builder.types import Predict

if TYPE_CHECKING:
    import numpy as np
    import torch

    Array = np.ndarray[Any, np.dtype[Any]]

BEFORE = "pillow_placed"
TRIES = 6


def examples(entry: Entry, reference: Reference, predict: Predict) -> Iterator[Example]:
    """Photos of this package whose answers are decided; perhaps none."""
    import torch

    details = reference.details
    before = STEPS[BEFORE].function(details.recipe)
    tolerance = TOLERANCES.get(entry.spec.precision, max(TOLERANCES.values()))
    names = [tensor.name for tensor in reference.signature.inputs]
    for image in photos.accepted(details.recipe, details.files):
        pixels, placement = before(image)
        tensors = (torch.as_tensor(pixels).unsqueeze(0), torch.as_tensor(placement).unsqueeze(0))
        raw = predict(dict(zip(names, tensors, strict=False)))
        given = [raw[tensor.name][0].clone().numpy() for tensor in reference.signature.outputs]
        if _is_decided(details.settings, given, placement, tolerance):
            yield Example({IMAGE_INPUT: image}, _padded(details.settings, given, placement))


def _padded(settings: DetectionSettings, given: list[Array], placement: Array) -> dict[str, torch.Tensor]:
    """As the step gives them: a batch of one."""
    import torch

    boxes, scores, classes = STEPS[STEP].function(settings)(*given, placement)
    most, count = settings.max_detections, len(scores)
    answer = {
        BOXES_OUTPUT: torch.zeros(1, most, 4),
        SCORES_OUTPUT: torch.zeros(1, most),
        CLASSES_OUTPUT: torch.zeros(1, most, dtype=torch.int32),
        COUNT_OUTPUT: torch.tensor([[count]], dtype=torch.int32),
    }
    for name, values in zip(answer, (boxes, scores, classes), strict=False):
        answer[name][0, :count] = torch.from_numpy(values.copy())
    return answer


def _is_decided(settings: DetectionSettings, given: list[Array], placement: Array, tolerance: float) -> bool:
    """Whether servers whose scores are off by the tolerance are held to give the same."""
    import numpy as np

    draw = np.random.default_rng(0)
    answers = (_disturbed(settings, given, tolerance, draw) for _ in range(TRIES))
    ours = _as_arrays(_padded(settings, given, placement))
    return not any(
        detections.difference(ours, _as_arrays(_padded(settings, answer, placement)), tolerance) for answer in answers
    )


def _as_arrays(answer: dict[str, torch.Tensor]) -> dict[str, Array]:
    return {name: tensor.numpy() for name, tensor in answer.items()}


def _disturbed(settings: DetectionSettings, given: list[Array], tolerance: float, draw: Any) -> list[Array]:
    place = 0 if settings.layout == "yolo" else 1
    scores = given[place].copy()
    part = scores[4:] if settings.layout == "yolo" else scores
    part *= (1 + tolerance * draw.uniform(-1, 1, part.shape)).astype(part.dtype)
    return [scores if number == place else one for number, one in enumerate(given)]
