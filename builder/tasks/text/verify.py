"""Whether an artifact gives the vectors, or the probabilities, that its network gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from builder.errors import VerificationError
from builder.tasks.classification import comparison as of_classes
from builder.tasks.classification.limits import Tolerance as ClassTolerance
from builder.tasks.embedding import comparison as of_vectors
from builder.tasks.embedding.limits import Tolerance as VectorTolerance
from builder.tasks.embedding.limits import limits as vector_limits
from builder.tasks.task import Entry, Reference
from builder.tasks.text.answers import described, rows_of
from builder.tasks.text.samples import TextSamples, batch_sizes
from builder.types import Predict, Verification
from builder.util.reasons import reason

if TYPE_CHECKING:
    import torch

    from builder.tasks.text.answers import Rows

Kind = TypeVar("Kind", ClassTolerance, VectorTolerance)
SAMPLES = "texts"
BUILT_IN = (
    "It was converted with a batch of 2 texts. If a size is what is built in, by a loop over tokens, by "
    "int(x.shape[1]) or by a mask made for one length, let forward() compute on whole tensors of any size; another "
    "`format:` may fit it"
)


def verify(entry: Entry, reference: Reference, predict: Predict) -> Verification:
    """Run the artifact as the network was run. Raises VerificationError where it fails, or gives something else."""
    samples, details = reference.samples, reference.details
    assert isinstance(samples, TextSamples)  # of this task's own study
    found = rows_of(_held(entry, reference, predict), samples, details.passes)
    sizes = batch_sizes(entry.spec.max_batch_size)
    precision = entry.spec.precision
    if details.wanted.is_classes:
        return of_classes.compare(reference.answers, found, sizes, samples, precision, details.wanted.is_multilabel)
    names = [text.name for text in samples.texts]
    return of_vectors.compare(reference.answers, found, sizes, names, precision)


def _held(entry: Entry, reference: Reference, predict: Predict) -> Rows:
    """The artifact, held to what its config will promise."""
    what, (answer,) = f"{entry.name} as {entry.spec.format}", reference.signature.outputs
    first = reference.signature.inputs[0].name

    def checked(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        count, width = batch[first].shape
        asked = described(count, width)
        try:
            rows = predict(batch)[answer.name]
        except Exception as error:  # a runtime's own errors: the artifact is at fault whatever they are
            raise VerificationError(f"{what} fails on {asked}: {reason(error).rstrip('.')}. {BUILT_IN}") from error
        if str(rows.dtype) != "torch.float32" or tuple(rows.shape) != (count, *answer.shape):
            raise VerificationError(
                f"{what} gives {rows.dtype} {list(rows.shape)} for {asked}, and its config would promise float32 "
                f"{[count, *answer.shape]}. {BUILT_IN}"
            )
        return rows

    return checked


def hold(entry: Entry, reference: Reference, verification: Verification, what: str) -> None:
    """Raise VerificationError, with the figures and the worst texts, unless they are within the limits."""
    precision, changes = entry.spec.precision, entry.spec.tolerance
    if isinstance(verification, of_classes.ClassificationVerification):
        allowed = of_classes.limits(precision, _part(changes, ClassTolerance))
        of_classes.require(verification, allowed, what, reference.labels, SAMPLES)
    else:
        assert isinstance(verification, of_vectors.EmbeddingVerification)
        of_vectors.require(verification, vector_limits(precision, _part(changes, VectorTolerance)), what, SAMPLES)


def allowed(entry: Entry, is_classes: bool) -> dict[str, float]:
    """The limits that it was held to."""
    precision, changes = entry.spec.precision, entry.spec.tolerance
    found = (
        of_classes.limits(precision, _part(changes, ClassTolerance))
        if is_classes
        else vector_limits(precision, _part(changes, VectorTolerance))
    )
    return dict(found.model_dump(mode="json", exclude_none=True))


def _part(changes: ClassTolerance, kind: type[Kind]) -> Kind:
    """Of the entry's changes, those of one kind of figures."""
    given = changes.model_dump(exclude_unset=True)
    return kind.model_validate({key: value for key, value in given.items() if key in kind.model_fields})
