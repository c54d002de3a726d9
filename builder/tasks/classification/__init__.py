"""One encoded image to the probabilities of its classes."""

from __future__ import annotations

from builder.networks import callables
from builder.tasks.classification import comparison
from builder.tasks.classification.examples import examples
from builder.tasks.classification.pipeline import pipeline
from builder.tasks.classification.spec import Classification
from builder.tasks.classification.study import calibration, head, study
from builder.tasks.images.artifacts import require_classifier
from builder.tasks.images.labels import require_known
from builder.tasks.images.preprocessing import recipe_with
from builder.tasks.spec import ModelSpec
from builder.tasks.task import Entry, Reference
from builder.types import Predict, Verification

__all__ = ["HAS_STEPS", "SPEC", "calibration", "examples", "head", "hold", "pipeline", "require", "study", "verify"]

SPEC: type[ModelSpec] = Classification
HAS_STEPS = True


def require(entry: Entry) -> None:
    """Raise ManifestError for what can be told before anything is made."""
    spec: Classification = entry.spec
    if entry.card and spec.activation != "softmax":
        raise entry.error("these weights were trained to give logits of one class; leave activation out")
    if spec.activation == "softmax" and spec.multilabel:
        raise entry.error("the softmax chooses one class; set `activation: sigmoid`", "multilabel")
    if entry.artifact:
        with entry.at("artifact"):
            require_classifier(entry.artifact, spec.format, spec.activation)
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
    """Raises VerificationError where the artifact fails, or gives something else than probabilities."""
    return comparison.verify(entry, reference, predict)


def hold(entry: Entry, reference: Reference, verification: Verification, what: str) -> None:
    """Raise VerificationError, with the figures and the worst images, unless they are within the limits."""
    assert isinstance(verification, comparison.ClassificationVerification)
    allowed = comparison.limits(entry.spec.precision, entry.spec.tolerance)
    comparison.require(verification, allowed, what, reference.labels)
