"""What the network itself gives: the same every time, of each sample alone, and of which shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.errors import ExportError, VerificationError
from builder.networks.heads import as_tensors, in_order
from builder.tasks.tensors.comparison import Measure, Tally, measures
from builder.tasks.tensors.samples import SampleSet
from builder.triton.signature import ANY_SIZE, TensorSpec, data_type_of
from builder.types import Predict
from builder.util.usercode import border

if TYPE_CHECKING:
    import torch
    from torch import nn

# How much of what the samples change the company of a sample, or a second run, may change. Kernels for other batch
# sizes add in another order, which is some 1e-6 of it; batch normalisation over the batch changes half of it. Numbers
# of 8 to 11 bits are rounded more coarsely than that.
LIMIT = 0.02
HALF_LIMIT = 0.3


@dataclass(frozen=True)
class Answers:
    """What the network gives for the batches of a plan."""

    plan: tuple[tuple[int, ...], ...]
    batches: tuple[dict[str, torch.Tensor], ...]
    """One a batch of the plan, under the outputs' names."""
    batch_sizes: tuple[int, ...]
    measures: dict[str, Measure]


def runner(head: nn.Module, inputs: Sequence[str], outputs: Sequence[str], is_batched: bool, name: str) -> Predict:
    """The head as a function of named tensors; whatever a user's forward() does is told of it."""

    def predict(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors = {key: tensor.clone() for key, tensor in batch.items()}
        with border(ExportError, f"{name}: the network fails on {described(batch, is_batched)}"):
            given = as_tensors(outputs, head(*in_order(tensors, inputs)))
        return {key: tensor.detach().clone() for key, tensor in given.items()}

    return predict


def described(batch: Mapping[str, torch.Tensor], is_batched: bool) -> str:
    """What a network or an artifact was run on."""
    shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in batch.items())
    if not is_batched:
        return f"a sample of {shapes}"
    count = len(next(iter(batch.values())))
    return f"a batch of {count} sample{'s' if count > 1 else ''}: {shapes}"


def asked(predict: Predict, samples: SampleSet, batch_sizes: tuple[int, ...], name: str) -> Answers:
    """Run the network as the plan says. Raises ExportError, and VerificationError for answers that cannot be served."""
    plan = samples.plan(batch_sizes)
    batches = [predict(samples.batch(numbers)) for numbers in plan]
    # The largest first: of [2, 1, 16] for a batch of one nothing tells which axis is which.
    for given, numbers in sorted(zip(batches, plan, strict=True), key=lambda pair: -len(pair[1])):
        _require_batch_axes(given, len(numbers), samples.is_batched, name)
        _require_finite(given, samples, numbers, name)
    every = sum(1 for _ in samples.runs(batch_sizes[-1]))
    rows = [row for answer, numbers in zip(batches[-every:], plan[-every:], strict=True)
            for row in rows_of(answer, len(numbers), samples.is_batched)]  # fmt: skip
    return Answers(plan, tuple(batches), batch_sizes, measures(rows))


def rows_of(answer: Mapping[str, torch.Tensor], count: int, is_batched: bool) -> Iterator[dict[str, torch.Tensor]]:
    """The answers of single samples."""
    if not is_batched:
        yield dict(answer)
        return
    for row in range(count):
        yield {name: tensor[row] for name, tensor in answer.items()}


def _require_batch_axes(given: Mapping[str, torch.Tensor], count: int, is_batched: bool, name: str) -> None:
    for output, tensor in given.items():
        shape = list(tensor.shape)
        if not shape:
            raise VerificationError(
                f"{name}: the output {output!r} is one number without an axis"
                + (f" for a batch of {count}, such as a mean over all of it; give one a sample, [B, 1]" if is_batched
                   else "; give it one: x.reshape(1)")
            )  # fmt: skip
        if is_batched and shape[0] != count:
            raise VerificationError(f"{name}: {_without_batch_axis(output, shape, count)}")


def _without_batch_axis(output: str, shape: list[int], count: int) -> str:
    known = f"the output {output!r} is {shape} for a batch of {count}, and its first axis must be the batch"
    if count > 1 and count in shape[1:]:
        axis = shape.index(count, 1)
        return f"{known}; axis {axis} may be it: give x.transpose(0, {axis}), or batch_first=True"
    if shape[0] == 1:
        return f"{known}; what is the same for all samples may be x.expand({count}, ...) with the batch's own size"
    return f"{known}; keep the samples apart, or set `max_batch_size: 0`, with which the network is given one at a time"


def _require_finite(given: Mapping[str, torch.Tensor], samples: SampleSet, numbers: Sequence[int], name: str) -> None:
    import torch

    for output, tensor in given.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            what = "NaN" if tensor.isnan().any() else "infinite numbers"
            some = ", ".join(dict.fromkeys(samples.name(number) for number in numbers[:2]))
            raise VerificationError(
                f"{name}: the network itself gives {what} in {output!r} for {some}"
                f"{', ...' if len(numbers) > 2 else ''}, with which no artifact can be compared; its weights are "
                "damaged, or the samples are not what it takes. A mask of -inf may be torch.finfo(x.dtype).min"
            )


def output_specs(answers: Answers, is_batched: bool, name: str) -> tuple[TensorSpec, ...]:
    """The outputs; an axis that differs among samples has any size. Raises VerificationError."""
    found = []
    for output, first in answers.batches[0].items():
        shapes = [tuple(batch[output].shape)[int(is_batched) :] for batch in answers.batches]
        if len({len(shape) for shape in shapes}) > 1:
            raise VerificationError(f"{name}: the output {output!r} has other numbers of axes for other samples")
        shape = tuple(size.pop() if len(size) == 1 else ANY_SIZE for size in map(set, zip(*shapes, strict=True)))
        if 0 in shape:
            raise VerificationError(f"{name}: the output {output!r} is empty for all samples: {list(shape)}")
        found.append(TensorSpec(output, _data_type(output, first, name), shape))
    return tuple(found)


def _data_type(output: str, tensor: torch.Tensor, name: str) -> str:
    try:
        return data_type_of(tensor.dtype)
    except ValueError as error:
        raise VerificationError(f"{name}: the output {output!r}: {error}; convert it in forward()") from None


def require_repeatable(predict: Predict, samples: SampleSet, answers: Answers, name: str) -> None:
    """Raise VerificationError if chance decides: the first batch is asked once more."""
    again = predict(samples.batch(answers.plan[0]))
    for output, expected in answers.batches[0].items():
        if share := _difference(output, [(expected, again[output])], answers):
            raise VerificationError(
                f"{name}: the network gives other answers when it is run twice on the same samples; {share}. Chance "
                "must not decide in evaluation mode: give F.dropout training=self.training, and draw nothing with "
                "torch.rand and the like in forward()"
            )


def require_independence(answers: Answers, name: str) -> None:
    """Raise VerificationError if a sample's answer depends on the batch that it is in."""
    if answers.batch_sizes[-1] == 1:
        return
    alone = {numbers[0]: answer for numbers, answer in zip(answers.plan, answers.batches, strict=True)
             if len(numbers) == 1}  # fmt: skip
    for output in answers.batches[0]:
        pairs = [
            (alone[number][output][0], row[output])
            for numbers, answer in zip(answers.plan, answers.batches, strict=True)
            for number, row in zip(numbers, rows_of(answer, len(numbers), True), strict=True)
            if number in alone and len(numbers) > 1
        ]
        if share := _difference(output, pairs, answers):
            raise VerificationError(
                f"{name}: the network's answer for a sample depends on the other samples of its batch, or on its place "
                f"among them; {share}. The server forms batches of anybody's requests. The usual causes are batch "
                "normalisation without running averages, attention over the batch (batch_first=False), a mean over "
                "dimension 0, and a branch on what is in the batch; mend forward(), or set `max_batch_size: 1`, with "
                "which each sample is alone"
            )


def _difference(output: str, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], answers: Answers) -> str:
    """What to say of answers that should be equal and are not; empty if they are, but for rounding."""
    tally = Tally(output, answers.measures[output])
    for expected, found in pairs:
        if expected.shape != found.shape:
            return f"{output!r} has other shapes, {list(expected.shape)} and {list(found.shape)}"
        tally.add(expected, found, [""], False)
    figures = tally.figures()
    if not figures.is_floating:
        return f"{output!r} differs in {figures.mismatches:.2%} of its numbers" if figures.mismatches else ""
    limit = HALF_LIMIT if is_half(pair[0] for pair in pairs) else LIMIT
    if figures.max_rel_error <= limit:
        return ""
    return f"{output!r} differs by {figures.max_rel_error:.2g} of what the samples themselves change (limit {limit})"


def is_half(tensors: Iterator[torch.Tensor]) -> bool:
    """Whether they were computed in half precision, as far as their values tell."""
    import torch

    found = list(tensors)
    return any(all(torch.equal(one.to(dtype).to(one.dtype), one) for one in found) for dtype in
               (torch.bfloat16, torch.float16))  # fmt: skip


def unchanged(answers: Answers) -> list[str]:
    """Outputs that the samples do not change."""
    return [name for name, measure in answers.measures.items() if not measure.is_changed]
