"""Networks and artifacts run on the evaluation images, through the served step, at several batch sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from builder.data.images import Evaluation
from builder.errors import VerificationError
from builder.steps import STEPS
from builder.steps.detections import DetectionSettings
from builder.tasks.detection.found import Found
from builder.tasks.images.running import BUILT_IN, FEW, UNTRACED
from builder.tasks.images.samples import placed
from builder.triton.signature import Signature, torch_type
from builder.types import Predict
from builder.util.reasons import reason

if TYPE_CHECKING:
    import torch

STEP = "detections"
ALL = {"iou_threshold": 1.0, "max_detections": 1500}
"""Settings with which nothing is suppressed."""


def plan(sizes: Sequence[int], count: int) -> Iterator[tuple[int, ...]]:
    """Numbers of images, a batch at a time: the first few at the smaller sizes, all at the largest.

    At one of the sizes they are asked for backwards, so that each is in another place, beside others.
    """
    *smaller, largest = sizes
    for size in smaller:
        few = list(range(min(FEW, count)))
        order = few[::-1] if size == UNTRACED else few
        yield from (tuple(order[start : start + size]) for start in range(0, len(order), size))
    yield from (tuple(range(start, min(start + largest, count))) for start in range(0, count, largest))


def detections(
    predict: Predict,
    signature: Signature,
    images: Evaluation,
    settings: DetectionSettings,
    sizes: Sequence[int],
    what: str,
) -> Iterator[tuple[int, Found, Callable[[], Found]]]:
    """An image's number with what is found in it, through the step with these settings, and, when it is asked for, all
    that nothing suppressed. Raises VerificationError."""
    import torch

    served, unsuppressed = (STEPS[STEP].function(one) for one in (settings, settings.model_copy(update=ALL)))
    transform = images.recipe.reference_transform()
    for numbers in plan(sizes, len(images)):
        views = [images.views[number] for number in numbers]
        pixels = torch.stack([view.tensor(images.recipe, transform) for view in views])
        places = torch.tensor([placed(view, images.recipe) for view in views], dtype=torch.int32)
        given = dict(zip([tensor.name for tensor in signature.inputs], (pixels, places), strict=False))
        answer = _checked(predict, given, signature, what)
        for row, number in enumerate(numbers):
            rows = [tensor[row] for tensor in answer]
            named = f"{what}: {views[row].name}"
            yield (
                number,
                _found(served, rows, places[row], named),
                partial(_found, unsuppressed, rows, places[row], named),
            )


def _found(served: object, answer: list[torch.Tensor], place: torch.Tensor, what: str) -> Found:
    import torch

    try:
        boxes, scores, classes = served(*(tensor.numpy() for tensor in answer), place.numpy())  # type: ignore[operator]
    except ValueError as error:
        raise VerificationError(f"{what}: {error}; its weights are damaged, or the recipe is another") from None
    return Found(*(torch.from_numpy(array.copy()) for array in (boxes, scores, classes)))


def _checked(predict: Predict, given: dict[str, torch.Tensor], signature: Signature, what: str) -> list[torch.Tensor]:
    """Copies of the outputs, held to what the config will say."""
    count = len(next(iter(given.values())))
    try:
        found = predict(given)
    except Exception as error:  # a runtime's own errors: the artifact is at fault whatever they are
        raise VerificationError(
            f"{what} fails on a batch of {count}: {reason(error).rstrip('.')}. {BUILT_IN}"
        ) from error
    for tensor in signature.outputs:
        rows = found[tensor.name]
        if rows.dtype != torch_type(tensor.data_type) or tuple(rows.shape) != (count, *tensor.shape):
            raise VerificationError(
                f"{what} gives {rows.dtype} {list(rows.shape)} as {tensor.name} for a batch of {count}, and its config "
                f"would promise {tensor.data_type} {[count, *tensor.shape]}. {BUILT_IN}"
            )
    return [found[tensor.name].clone() for tensor in signature.outputs]
