"""Whether an artifact computes what its network computes, output by output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from builder.errors import VerificationError
from builder.tasks.task import Entry, Reference
from builder.tasks.tensors.answers import Answers, described
from builder.tasks.tensors.comparison import OutputFigures, Tally, TensorsVerification, verification
from builder.tasks.tensors.limits import OutputTolerance, limits
from builder.tasks.tensors.samples import SampleSet
from builder.triton.signature import data_type_of
from builder.types import Predict, Verification
from builder.util.reasons import reason

if TYPE_CHECKING:
    import torch

BUILT_IN = (
    "It was converted with one batch of samples. If something of that is built in, by a loop over an axis, by "
    "int(x.shape[0]), by a branch on what is in the tensors or by a reshape with numbers, let forward() compute on "
    "whole tensors of any size"
)
TEXTS = {
    "max_abs_error": "numbers differ by up to {value:.2e} (limit {limit:.3g})",
    "mean_abs_error": "numbers differ on average by {value:.2e} (limit {limit:.3g})",
    "max_rel_error": "the largest error, as a share of what the samples change, is {value:.2e} (limit {limit:.3g})",
    "noise": "the noise, as a share of what the samples change, is {value:.2e} (limit {limit:.3g})",
    "mismatches": "{value:.2%} of the numbers differ (limit {limit:.2%})",
}
"""By the figures' names, which are those of the limits."""


def verify(entry: Entry, reference: Reference, predict: Predict) -> TensorsVerification:
    """Run the artifact on the batches that the network was run on. Raises VerificationError."""
    answers: Answers = reference.answers
    set_ = reference.samples
    assert isinstance(set_, SampleSet)  # of this task's own study
    tallies = {name: Tally(name, measure) for name, measure in answers.measures.items()}
    for numbers, expected in zip(answers.plan, answers.batches, strict=True):
        batch = set_.batch(numbers)
        what = f"{entry.name} as {entry.spec.format}"
        found = _given(predict, batch, set_.is_batched, what)
        _require_form(found, expected, f"{what} gives", described(batch, set_.is_batched))
        for name, tally in tallies.items():
            tally.add(expected[name], found[name], [set_.name(number) for number in numbers], set_.is_batched)
    return verification([tally.figures() for tally in tallies.values()], answers.batch_sizes, len(set_))


def _given(predict: Predict, batch: dict[str, torch.Tensor], is_batched: bool, what: str) -> dict[str, torch.Tensor]:
    try:
        # Clones: a runtime may give the same memory again for the next batch.
        return {name: tensor.clone() for name, tensor in predict(batch).items()}
    except Exception as error:  # a runtime's own errors: the artifact is at fault whatever they are
        told = f"{what} fails on {described(batch, is_batched)}: {reason(error).rstrip('.')}. {BUILT_IN}"
        raise VerificationError(told) from error


def _require_form(
    found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], gives: str, batch: str
) -> None:
    """Raise VerificationError unless these are the tensors that the config will promise."""
    if set(found) != set(expected):
        raise VerificationError(f"{gives} {', '.join(found) or 'nothing'} for {batch}, not {', '.join(expected)}")
    for name, tensor in expected.items():
        if found[name].dtype != tensor.dtype or found[name].shape != tensor.shape:
            raise VerificationError(
                f"{gives} {_form(found[name])} as {name!r} for {batch}, and the network {_form(tensor)}. {BUILT_IN}"
            )


def _form(tensor: torch.Tensor) -> str:
    try:
        kind = data_type_of(tensor.dtype)
    except ValueError:
        kind = str(tensor.dtype)
    return f"{kind} {list(tensor.shape)}"


def hold(entry: Entry, reference: Reference, found: Verification, what: str) -> None:
    """Raise VerificationError, with figures, output and the worst sample, unless all is within the entry's limits."""
    del reference
    assert isinstance(found, TensorsVerification)  # of `verify`
    failures = [
        f"  {figures.name}: {'; '.join(told)}{_worst(figures)}"
        for figures in found.outputs
        if (told := _failures(figures, _limits(entry, figures)))
    ]
    if failures:
        sizes = ", ".join(map(str, found.batch_sizes))
        raise VerificationError(
            f"{what} does not compute what the network computes, on {found.samples} samples at batch sizes {sizes}. "
            f"Nothing was published. By output:\n" + "\n".join(failures) + "\n"
            "If that is too strict for the precision, `tolerance:` sets the limits, of all outputs or of one. At fp32 "
            "a forward() that branches on data or on sizes is the usual cause; another `format:` may fit it"
        )


def _limits(entry: Entry, figures: OutputFigures) -> OutputTolerance:
    return limits(entry.spec.precision, figures.is_floating, figures.name, entry.spec.tolerance)


def _failures(figures: OutputFigures, allowed: OutputTolerance) -> Sequence[str]:
    """So written that NaN fails."""
    found = []
    for key, text in TEXTS.items():
        value, limit = getattr(figures, key), getattr(allowed, key)
        if limit is not None and not value <= limit:
            found.append(text.format(value=value, limit=limit))
    return found


def _worst(figures: OutputFigures) -> str:
    worst = figures.worst
    if worst is None:
        return ""
    return f"; worst in {worst.sample} at {list(worst.index)}: network {worst.expected:.6g}, artifact {worst.found:.6g}"
