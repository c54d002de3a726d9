"""One encoded image to the class of each of its pixels."""

from __future__ import annotations

from builder.networks import callables
from builder.tasks.images.artifacts import require_image
from builder.tasks.images.labels import require_known
from builder.tasks.images.preprocessing import recipe_with
from builder.tasks.segmentation import comparison
from builder.tasks.segmentation.pipeline import examples, pipeline
from builder.tasks.segmentation.spec import Segmentation
from builder.tasks.segmentation.study import calibration, head, study
from builder.tasks.spec import ModelSpec
from builder.tasks.task import Entry, Reference
from builder.types import Predict, Verification

__all__ = ["HAS_STEPS", "SPEC", "calibration", "examples", "head", "hold", "pipeline", "require", "study", "verify"]

SPEC: type[ModelSpec] = Segmentation
HAS_STEPS = True


def require(entry: Entry) -> None:
    """Raise ManifestError for what can be told before anything is made."""
    spec: Segmentation = entry.spec
    if entry.artifact:
        with entry.at("artifact"):
            require_image(entry.artifact)
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
    """Raises VerificationError where the artifact fails, or gives something else than classes of pixels."""
    return comparison.verify(entry, reference, predict)


def hold(entry: Entry, reference: Reference, verification: Verification, what: str) -> None:
    """Raise VerificationError, with the figures and the worst image, unless they are within the limits."""
    del reference
    assert isinstance(verification, comparison.SegmentationVerification)
    comparison.require(verification, comparison.limits(entry.spec.precision, entry.spec.tolerance), what)
