"""One encoded image to the class of each of its pixels."""

from __future__ import annotations

from builder.tasks.images.artifacts import require_image
from builder.tasks.images.entries import calibration, require_calibration, require_recipe
from builder.tasks.images.labels import require_known
from builder.tasks.segmentation import comparison
from builder.tasks.segmentation.pipeline import examples, pipeline
from builder.tasks.segmentation.spec import Segmentation
from builder.tasks.segmentation.study import head, study
from builder.tasks.spec import ModelSpec
from builder.tasks.task import Entry, Reference
from builder.types import Predict, Verification

__all__ = ["HAS_STEPS", "SPEC", "calibration", "examples", "head", "hold", "pipeline", "require", "study", "verify"]

SPEC: type[ModelSpec] = Segmentation
HAS_STEPS = True


def require(entry: Entry) -> None:
    """Raise ManifestError for what can be told before anything is made."""
    if entry.artifact:
        with entry.at("artifact"):
            require_image(entry.artifact)
    require_calibration(entry)
    require_known(entry)
    require_recipe(entry)


def verify(entry: Entry, reference: Reference, predict: Predict) -> Verification:
    """Raises VerificationError where the artifact fails, or gives something else than classes of pixels."""
    return comparison.verify(entry, reference, predict)


def hold(entry: Entry, reference: Reference, verification: Verification, what: str) -> None:
    """Raise VerificationError, with the figures and the worst image, unless they are within the limits."""
    del reference
    assert isinstance(verification, comparison.SegmentationVerification)
    comparison.require(verification, comparison.limits(entry.spec.precision, entry.spec.tolerance), what)
