"""What stands around a segmenter on the server: an encoded image goes in, a mask comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.repository import layout
from builder.steps import STEPS
from builder.steps.mask import CLASSES_INPUT, mask
from builder.steps.pillow_placed import PLACEMENT
from builder.steps.staging import stage_step
from builder.tasks.images import photos
from builder.tasks.segmentation.comparison import STEP as MASK
from builder.tasks.segmentation.comparison import limits
from builder.tasks.segmentation.details import Details
from builder.tasks.segmentation.study import STEP
from builder.tasks.task import Call, Entry, Example, Pipeline, Reference
from builder.triton.signature import IMAGE_INPUT, MASK_OUTPUT, Signature, torch_type
from builder.types import Predict

if TYPE_CHECKING:
    import torch


def pipeline(entry: Entry, reference: Reference, folder: Path) -> Pipeline:
    """Preprocessing, the network, and the mask at the size that clients want: one ensemble."""
    details: Details = reference.details
    recipe, settings = details.recipe, details.settings
    first, last = STEPS[STEP], STEPS[MASK]
    (image,), (pixels, placed) = first.signature(recipe).inputs, first.signature(recipe).outputs
    ((given,), (classes,)) = reference.signature.inputs, reference.signature.outputs
    before = stage_step(folder / STEP, first, recipe, photos.warmup(recipe, details.files), entry.cores)
    behind = stage_step(folder / MASK, last, settings, _warmup(details), entry.cores)
    return Pipeline(
        signature=Signature((image,), (mask(settings),)),
        calls=(
            Call({image.name: image.name}, {pixels.name: pixels.name, placed.name: placed.name}, before),
            Call({given.name: pixels.name}, {classes.name: CLASSES_INPUT}),
            Call({CLASSES_INPUT: CLASSES_INPUT, placed.name: placed.name}, {MASK_OUTPUT: MASK_OUTPUT}, behind),
        ),
        parameters=_for_clients(reference, details),
        built_from={"preprocess": recipe.model_dump(mode="json"), "tolerance": _tolerance(entry)},
    )


def _warmup(details: Details) -> dict[str, bytes | torch.Tensor]:
    import torch

    height, width = details.settings.input
    classes = torch.zeros(details.settings.shape, dtype=torch_type(details.settings.data_type))
    placed = torch.tensor([height, width, 0, 0, height, width], dtype=torch.int32)
    return {CLASSES_INPUT: classes, PLACEMENT.name: placed}


def _for_clients(reference: Reference, details: Details) -> dict[str, str]:
    labels = {layout.CLASS_NAMES: json.dumps(reference.labels, ensure_ascii=False)} if reference.labels else {}
    return labels | {
        layout.ENCODE: details.settings.encode,
        layout.MAX_IMAGE_BYTES: str(details.recipe.max_bytes),
    }


def _tolerance(entry: Entry) -> dict[str, float]:
    allowed = limits(entry.spec.precision, entry.spec.tolerance)
    found: dict[str, float] = allowed.model_dump(mode="json", exclude_none=True)
    return found


def examples(entry: Entry, reference: Reference, predict: Predict) -> Iterator[Example]:
    """Photos whose masks are decided, and the artifact's masks of them."""
    import torch

    del entry
    details: Details = reference.details
    before: Any = STEPS[STEP].function(details.recipe)
    behind = STEPS[MASK].function(details.settings)
    ((given,), (classes,)) = reference.signature.inputs, reference.signature.outputs
    for image in details.examples:
        pixels, placed = before(image)
        found = predict({given.name: torch.as_tensor(pixels).unsqueeze(0)})[classes.name][0].numpy()
        answer: Any = behind(found, placed)
        yield Example(
            {IMAGE_INPUT: image}, {MASK_OUTPUT: answer if isinstance(answer, bytes) else torch.from_numpy(answer)[None]}
        )
