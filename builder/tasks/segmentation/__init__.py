"""One encoded image to a class a pixel. The module is a `Task`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.networks import callables
from builder.repository import layout
from builder.steps import STEPS
from builder.steps.mask import GIVEN, mask
from builder.steps.pillow_placed import PLACEMENT
from builder.steps.staging import stage_step
from builder.tasks.images import photos
from builder.tasks.images.artifacts import require_segmenter
from builder.tasks.images.labels import require_known
from builder.tasks.images.preprocessing import recipe_with
from builder.tasks.images.running import batch_sizes, held, outputs
from builder.tasks.segmentation import comparison, maps, truths
from builder.tasks.segmentation.limits import limits
from builder.tasks.segmentation.spec import Segmentation
from builder.tasks.segmentation.study import STEP, Details, calibration, head, placed, study
from builder.tasks.spec import ModelSpec
from builder.tasks.task import Call, Entry, Example, Pipeline, Reference
from builder.triton.signature import DATA_TYPES, IMAGE_INPUT, MASK_OUTPUT, Signature, torch_type
from builder.types import Predict, Verification

if TYPE_CHECKING:
    import torch

__all__ = ["HAS_STEPS", "SPEC", "calibration", "examples", "head", "hold", "pipeline", "require", "study", "verify"]

SPEC: type[ModelSpec] = Segmentation
HAS_STEPS = True
BEFORE = "pillow_placed"


def require(entry: Entry) -> None:
    """Raise ManifestError for what can be told before anything is made."""
    spec: Segmentation = entry.spec
    if entry.artifact:
        with entry.at("artifact"):
            require_segmenter(entry.artifact)
    if entry.needs_calibration and spec.calibration is None:
        raise entry.error(
            "int8 needs `calibration: {data: DIR, samples: 256}`: images like those to come, of which it learns the "
            "ranges of the activations, and not those of `images`",
            "precision",
        )
    require_known(entry)
    if entry.artifact or (callables.matches(spec.network) and not entry.card and not entry.weights.path):
        recipe_with(entry, None)  # nothing will bring one along


def verify(entry: Entry, reference: Reference, predict: Predict) -> Verification:
    """Raises VerificationError where the artifact fails, or gives something else than such masks."""
    details: Details = reference.details
    sizes = batch_sizes(entry.spec.max_batch_size)
    (given,), (found,) = reference.signature.inputs, reference.signature.outputs
    what, kind = f"{entry.name} as {entry.spec.format}", DATA_TYPES[found.data_type]
    checked = held(lambda batch: predict({given.name: batch})[found.name], found.shape, what, kind)
    masks = outputs(lambda batch: maps.best(checked(batch)), details.images, sizes)
    tally = comparison.Tally()
    for ours, theirs, decided in zip(reference.answers, masks, details.decided, strict=True):
        for rows in zip(ours, theirs, decided, strict=True):
            tally.add(*rows)
    against = (_miou(entry, details, answers) for answers in (reference.answers[-1], masks[-1]))
    return tally.figures(sizes, len(details.images), (next(against), next(against)))


def _miou(entry: Entry, details: Details, masks: torch.Tensor) -> float | None:
    """With the true masks, at the pictures' own sizes. Raises ManifestError."""

    def pairs() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for number, file in details.truths.items():
            placement = placed(details, number)
            size = placement.picture_height, placement.picture_width
            with entry.at("images", "masks"):
                truth = truths.read(file, size, details.classes)
            yield truth, maps.of_picture(masks[number], placement, details.settings.network_size)

    return comparison.miou(pairs())


def hold(entry: Entry, reference: Reference, verification: Verification, what: str) -> None:
    """Raise VerificationError, with the figures, unless they are within the limits."""
    del reference
    assert isinstance(verification, comparison.SegmentationVerification)
    comparison.require(verification, limits(entry.spec.precision, entry.spec.tolerance), what)


def examples(entry: Entry, reference: Reference, predict: Predict) -> Iterator[Example]:
    """Photos of this package; one of the user's if the recipe refuses these."""
    import numpy as np
    import torch

    del entry
    details: Details = reference.details
    before, behind = STEPS[BEFORE].function(details.recipe), STEPS[STEP].function(details.settings)
    ((given,), (found,)) = reference.signature.inputs, reference.signature.outputs
    for image in photos.accepted(details.recipe, details.files):
        pixels, placement = before(image)
        raw = predict({given.name: torch.as_tensor(pixels).unsqueeze(0)})[found.name]
        answer = behind(np.asarray(raw[0]), placement)
        yield Example({IMAGE_INPUT: image}, {MASK_OUTPUT: answer if isinstance(answer, bytes) else _batch(answer)})


def _batch(mask: Any) -> torch.Tensor:
    import torch

    return torch.as_tensor(mask.copy()).unsqueeze(0)


def pipeline(entry: Entry, reference: Reference, folder: Path) -> Pipeline:
    """Preprocessing, the network, and the mask of the picture: one ensemble."""
    details: Details = reference.details
    photo = photos.warmup(details.recipe, details.files)
    before = stage_step(folder / BEFORE, STEPS[BEFORE], details.recipe, photo, entry.cores)
    behind = stage_step(folder / STEP, STEPS[STEP], details.settings, _warmup(details), entry.cores)
    placing = STEPS[BEFORE].signature(details.recipe)
    (image,), (pixels, at) = placing.inputs, placing.outputs
    ((given,), (found,)) = reference.signature.inputs, reference.signature.outputs
    names = {layout.CLASS_NAMES: json.dumps(reference.labels)} if reference.labels else {}
    allowed = limits(entry.spec.precision, entry.spec.tolerance)
    return Pipeline(
        signature=Signature((image,), (mask(details.settings),)),
        calls=(
            Call({image.name: image.name}, {pixels.name: pixels.name, at.name: at.name}, before),
            Call({given.name: pixels.name}, {found.name: GIVEN}),
            Call({GIVEN: GIVEN, at.name: at.name}, {MASK_OUTPUT: MASK_OUTPUT}, behind),
        ),
        labels=reference.labels,
        parameters=names
        | {layout.MAX_IMAGE_BYTES: str(details.recipe.max_bytes), layout.ENCODE: details.settings.encode},
        built_from={
            "preprocess": details.recipe.model_dump(mode="json"),
            "tolerance": allowed.model_dump(mode="json", exclude_none=True),
        },
    )


def _warmup(details: Details) -> dict[str, torch.Tensor]:
    """The first picture's place, and an answer of nothing."""
    import torch

    nothing = torch.zeros(details.settings.shape, dtype=torch_type(details.settings.data_type))
    return {GIVEN: nothing, PLACEMENT.name: torch.tensor(placed(details, 0), dtype=torch.int32)}
