"""How the outputs of an artifact differ from its network's: figures of each output, and the worst number of all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from builder.types import Verification

if TYPE_CHECKING:
    import torch

# Sums in another order differ in the last bits of float32, by the size of the largest number: such errors are none,
# since an untrained network's samples may change hardly more than that. 32 steps.
ROUNDING = 2.0**-18
RESOLVED = 8
"""How often its rounding samples must change an output, for what they change to be told from rounding."""


@dataclass(frozen=True)
class Measure:
    """What errors of one output are set in relation to."""

    rounding: float
    """Errors up to this are none."""
    spread: float
    """The largest difference that samples make in any number."""
    deviation: float
    """Root mean square of what samples change."""
    is_changed: bool
    """Whether samples change it at all; if not, both figures are of its own size."""


@dataclass(frozen=True)
class Worst:
    """The number that differs most."""

    sample: str
    index: tuple[int, ...]
    """Within the sample's output, without the batch axis."""
    expected: float
    found: float


@dataclass(frozen=True)
class OutputFigures:
    """One output's, over all samples and batch sizes."""

    name: str
    is_floating: bool
    max_abs_error: float
    mean_abs_error: float
    max_rel_error: float
    noise: float
    mismatches: float
    """Share of the numbers that are not equal, of integers and booleans."""
    worst: Worst | None
    """None: nothing differs."""


@dataclass(frozen=True)
class TensorsVerification(Verification):
    """The worst of all outputs by each figure."""

    max_rel_error: float = 0.0
    noise: float = 0.0
    mismatches: float = 0.0
    outputs: tuple[OutputFigures, ...] = ()

    def with_names(self, rename: Callable[[str], str]) -> TensorsVerification:
        return replace(self, outputs=tuple(_renamed(figures, rename) for figures in self.outputs))


def _renamed(figures: OutputFigures, rename: Callable[[str], str]) -> OutputFigures:
    worst = figures.worst
    return replace(figures, worst=worst and replace(worst, sample=rename(worst.sample)))


def measured(rows: Iterable[torch.Tensor]) -> Measure:
    """What the samples change in an output; `rows` has one tensor a sample, whose sizes may differ.

    Numbers of different samples are set side by side as far as all of them reach.
    """
    answers = list(rows)
    size = max((row.double().abs().max().item() for row in answers if row.numel()), default=0.0)
    spread, deviation = _changes(_cropped(answers))
    rounding = ROUNDING * size
    if spread > RESOLVED * rounding:
        return Measure(rounding, spread, deviation, True)
    count = sum(row.numel() for row in answers)
    total = sum(row.double().square().sum().item() for row in answers)
    return Measure(rounding, size, math.sqrt(total / count) if count else 0.0, False)


def _cropped(rows: list[torch.Tensor]) -> list[torch.Tensor]:
    common = [min(row.shape[axis] for row in rows) for axis in range(rows[0].ndim)]
    return [row[tuple(slice(size) for size in common)] for row in rows]


def _changes(rows: list[torch.Tensor]) -> tuple[float, float]:
    """(largest difference, root mean square of the differences from the mean) of numbers in the same place."""
    import torch

    first = rows[0].double()
    if not first.numel():
        return 0.0, 0.0
    least = most = total = squares = torch.zeros_like(first)
    for row in rows:
        # From the first on: differences of large numbers that hardly differ are exact.
        change = row.double() - first
        least, most = torch.minimum(least, change), torch.maximum(most, change)
        total, squares = total + change, squares + change.square()
    variance = (squares / len(rows) - (total / len(rows)).square()).clamp_min(0)
    return (most - least).max().item(), variance.mean().sqrt().item()


class Tally:
    """The figures of one output as batch after batch is compared."""

    def __init__(self, name: str, measure: Measure) -> None:
        self.name, self.measure = name, measure
        self.is_floating = True
        self.largest = self.total = self.squares = 0.0
        self.count = self.unequal = 0
        self.worst: Worst | None = None

    def add(self, expected: torch.Tensor, found: torch.Tensor, samples: list[str], is_batched: bool) -> None:
        """`samples` has the names of those in the batch."""
        self.is_floating = expected.is_floating_point()
        if not expected.numel():
            return
        errors = (expected.double() - found.double()).abs()
        if not self.is_floating:  # float64 does not tell all large integers apart
            errors = errors.maximum((expected != found).double())
        errors = errors.nan_to_num(nan=math.inf, posinf=math.inf)  # NaN is the worst of errors
        self.count += errors.numel()
        self.unequal += int((errors > 0).sum())
        self.total += errors.sum().item()
        self.squares += (errors - self.measure.rounding).clamp_min(0).square().sum().item()
        if errors.max().item() > self.largest:
            self.largest = errors.max().item()
            self.worst = _worst(errors, expected, found, samples, is_batched)

    def figures(self) -> OutputFigures:
        count = max(1, self.count)
        beyond = max(0.0, self.largest - self.measure.rounding)
        return OutputFigures(
            name=self.name,
            is_floating=self.is_floating,
            max_abs_error=self.largest,
            mean_abs_error=self.total / count,
            max_rel_error=_over(beyond, self.measure.spread) if self.is_floating else 0.0,
            noise=_over(math.sqrt(self.squares / count), self.measure.deviation) if self.is_floating else 0.0,
            mismatches=0.0 if self.is_floating else self.unequal / count,
            worst=self.worst,
        )


def _over(error: float, measure: float) -> float:
    if error == 0:
        return 0.0
    return error / measure if measure else math.inf


def _worst(
    errors: torch.Tensor, expected: torch.Tensor, found: torch.Tensor, samples: list[str], is_batched: bool
) -> Worst:
    import torch

    place = tuple(int(number) for number in torch.unravel_index(errors.argmax(), errors.shape))
    sample, index = (samples[place[0]], place[1:]) if is_batched else (samples[0], place)
    return Worst(sample, index, expected[place].item(), found[place].item())


def verification(figures: list[OutputFigures], batch_sizes: tuple[int, ...], samples: int) -> TensorsVerification:
    def most(key: str) -> float:
        return max(float(getattr(one, key)) for one in figures)

    return TensorsVerification(
        batch_sizes=batch_sizes,
        samples=samples,
        max_abs_error=most("max_abs_error"),
        mean_abs_error=most("mean_abs_error"),
        max_rel_error=most("max_rel_error"),
        noise=most("noise"),
        mismatches=most("mismatches"),
        outputs=tuple(figures),
    )


def measures(answers: Iterable[Mapping[str, torch.Tensor]]) -> dict[str, Measure]:
    """By output, of the answers for single samples."""
    rows: dict[str, list[torch.Tensor]] = {}
    for answer in answers:
        for name, tensor in answer.items():
            rows.setdefault(name, []).append(tensor)
    return {name: measured(tensors) for name, tensors in rows.items()}
