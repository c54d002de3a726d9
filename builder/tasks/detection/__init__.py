"""One encoded image to the objects in it: boxes, scores and classes. The module is a `Task`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from builder.networks import callables
from builder.repository import layout
from builder.steps import STEPS
from builder.steps.detections import GIVEN, detections
from builder.steps.pillow_placed import PLACEMENT
from builder.steps.staging import stage_step
from builder.tasks.detection import comparison
from builder.tasks.detection.examples import BEFORE, examples
from builder.tasks.detection.running import STEP
from builder.tasks.detection.spec import Detection
from builder.tasks.detection.study import Details, allowed_for, calibration, compared, head, study
from builder.tasks.images import photos
from builder.tasks.images.artifacts import require_detector
from builder.tasks.images.entries import require_calibration
from builder.tasks.images.labels import require_known
from builder.tasks.images.preprocessing import recipe_with
from builder.tasks.images.samples import placed
from builder.tasks.spec import ModelSpec
from builder.tasks.task import Call, Entry, Pipeline, Reference
from builder.triton.signature import Signature, torch_type
from builder.types import Predict, Verification

if TYPE_CHECKING:
    import torch

__all__ = ["HAS_STEPS", "SPEC", "calibration", "examples", "head", "hold", "pipeline", "require", "study", "verify"]

SPEC: type[ModelSpec] = Detection
HAS_STEPS = True


def require(entry: Entry) -> None:
    """Raise ManifestError for what can be told before anything is made."""
    spec: Detection = entry.spec
    if entry.artifact:
        with entry.at("artifact"):
            require_detector(entry.artifact)
        if spec.output is None:
            raise entry.error(
                "nothing tells what the file gives; say `output: {layout: yolo}`, or `output: {layout: boxes_scores, "
                "box: xyxy}`",
                "artifact",
            )
    require_calibration(entry)
    require_known(entry)
    # torchvision's detectors know how they take pictures; what has another output must be told.
    if entry.artifact or (callables.matches(spec.network) and spec.output):
        recipe_with(entry, None)


def verify(entry: Entry, reference: Reference, predict: Predict) -> Verification:
    """Raises VerificationError where the artifact fails, or gives something else than its config will say."""
    what = f"{entry.name} as {entry.spec.format}"
    details, allowed = reference.details, allowed_for(entry, reference.trained)
    return compared(entry, details, reference.signature, reference.answers, predict, what, allowed)


def hold(entry: Entry, reference: Reference, verification: Verification, what: str) -> None:
    """Raise VerificationError, with the figures, unless they are within the limits."""
    assert isinstance(verification, comparison.DetectionVerification)
    comparison.require(verification, allowed_for(entry, reference.trained), what)


def pipeline(entry: Entry, reference: Reference, folder: Path) -> Pipeline:
    """Preprocessing, the network, and what is made of its candidates: one ensemble."""
    details: Details = reference.details
    photo = photos.warmup(details.recipe, details.files)
    before = stage_step(folder / BEFORE, STEPS[BEFORE], details.recipe, photo, entry.cores)
    behind = stage_step(folder / STEP, STEPS[STEP], details.settings, _warmup(details), entry.cores)
    placing = STEPS[BEFORE].signature(details.recipe)
    (image,), (pixels, at) = placing.inputs, placing.outputs
    given = [f"{GIVEN}__{number}" for number in range(len(reference.signature.outputs))]
    answers = detections(details.settings.max_detections)
    names = {layout.CLASS_NAMES: json.dumps(reference.labels)} if reference.labels else {}
    fed = zip([tensor.name for tensor in reference.signature.inputs], (pixels.name, at.name), strict=False)
    own = [tensor.name for tensor in reference.signature.outputs]
    return Pipeline(
        signature=Signature((image,), answers),
        calls=(
            Call({image.name: image.name}, {pixels.name: pixels.name, at.name: at.name}, before),
            Call(dict(fed), dict(zip(own, given, strict=True))),
            Call({name: name for name in (*given, at.name)}, {one.name: one.name for one in answers}, behind),
        ),
        labels=reference.labels,
        parameters=names | {layout.MAX_IMAGE_BYTES: str(details.recipe.max_bytes)},
        built_from={
            "preprocess": details.recipe.model_dump(mode="json"),
            "detections": details.settings.model_dump(mode="json"),
            "tolerance": allowed_for(entry, reference.trained).model_dump(mode="json", exclude_none=True),
        },
    )


def _warmup(details: Details) -> dict[str, torch.Tensor]:
    """The first picture's place, and an answer of nothing."""
    import torch

    given = {
        f"{GIVEN}__{number}": torch.zeros(shape, dtype=torch_type(kind))
        for number, (kind, shape) in enumerate(details.settings.tensors)
    }
    place = placed(details.images.views[0], details.recipe)
    return given | {PLACEMENT.name: torch.tensor(place, dtype=torch.int32)}
