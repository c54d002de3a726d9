"""One encoded image to the probabilities of its classes."""

from __future__ import annotations

from builder.tasks.classification import comparison
from builder.tasks.classification.examples import examples
from builder.tasks.classification.pipeline import pipeline
from builder.tasks.classification.spec import Classification
from builder.tasks.classification.study import head, study
from builder.tasks.images.artifacts import require_classifier
from builder.tasks.images.entries import calibration, require_calibration, require_recipe
from builder.tasks.images.labels import require_known
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
    require_calibration(entry)
    require_known(entry)
    require_recipe(entry)


def verify(entry: Entry, reference: Reference, predict: Predict) -> Verification:
    """Raises VerificationError where the artifact fails, or gives something else than probabilities."""
    return comparison.verify(entry, reference, predict)


def hold(entry: Entry, reference: Reference, verification: Verification, what: str) -> None:
    """Raise VerificationError, with the figures and the worst images, unless they are within the limits."""
    assert isinstance(verification, comparison.ClassificationVerification)
    allowed = comparison.limits(entry.spec.precision, entry.spec.tolerance)
    comparison.require(verification, allowed, what, reference.labels)
