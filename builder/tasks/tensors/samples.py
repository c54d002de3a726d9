"""The samples as a network is run on them: in batches of equal sizes, and so many that each batch size is tried."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from builder.data.arrays import Sample
from builder.triton.signature import ANY_SIZE, TensorSpec

if TYPE_CHECKING:
    import torch

FEW = 4
UNTRACED = 3
"""A batch size that no network is converted at (that is 2); tried with the samples in another company and order."""
LEAST = 2
"""Samples of one size: what is converted at a batch of 2 needs one."""


@dataclass(frozen=True)
class SampleSet:
    """Samples, those of equal sizes beside each other. It is the `Samples` of `builder.types`."""

    samples: tuple[Sample, ...]
    is_batched: bool

    def __len__(self) -> int:
        return len(self.samples)

    def name(self, number: int) -> str:
        return self.samples[number].name

    def batches(self, size: int, count: int | None = None) -> Iterator[dict[str, torch.Tensor]]:
        """`size` of equal sizes at a time, or fewer; copies, so that what is done to them in place stays there."""
        return (self.batch(numbers) for numbers in self.runs(size, count))

    def runs(self, size: int, count: int | None = None) -> Iterator[tuple[int, ...]]:
        """The numbers of the samples in each of `batches`."""
        numbers = range(len(self.samples[:count]))
        for _, group in itertools.groupby(numbers, key=lambda number: sizes_of(self.samples[number])):
            yield from chunks(list(group), size if self.is_batched else 1)

    def batch(self, numbers: Sequence[int]) -> dict[str, torch.Tensor]:
        """Samples of equal sizes under the inputs' names; without a batch axis where the network does not batch."""
        import torch

        first = self.samples[numbers[0]].tensors
        if not self.is_batched:
            return {name: tensor.clone() for name, tensor in first.items()}
        return {name: torch.stack([self.samples[number].tensors[name] for number in numbers]) for name in first}

    def plan(self, batch_sizes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """The batches, by samples' numbers, that network and artifact are run on.

        All samples at the largest size; the first few at the others, and one of each size alone.
        """
        *smaller, largest = batch_sizes
        few = self._first()
        found: list[tuple[int, ...]] = []
        for size in smaller:
            # With the last sample first, each is in another place, beside others.
            found += chunks(few[::-1] if size == UNTRACED else few, size)
        if smaller:
            found += [(number,) for number in self.firsts() if number not in few]
        return (*found, *self.runs(largest))

    def _first(self) -> list[int]:
        """The first few, as far as they are of equal sizes."""
        return list(next(self.runs(FEW)))

    def firsts(self) -> list[int]:
        """The first of each size."""
        return [group[0] for group in self.runs(len(self.samples))] if self.is_batched else list(range(len(self)))


def sizes_of(sample: Sample) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(tensor.shape) for tensor in sample.tensors.values())


def chunks(numbers: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(numbers[start : start + size]) for start in range(0, len(numbers), size)]


def batch_sizes(max_batch_size: int) -> tuple[int, ...]:
    """Those that are tried. A network that does not batch takes one sample at a time."""
    return tuple(sorted({min(size, max(1, max_batch_size)) for size in (1, LEAST, UNTRACED, max_batch_size or 1)}))


def arranged(samples: Sequence[Sample], max_batch_size: int) -> SampleSet:
    """Those of equal sizes together, the most of them first, as often as the largest batch needs them.

    A size of 1 is what exporters take for a constant, so that groups without one come before those with one.
    """
    groups: dict[tuple[tuple[int, ...], ...], list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sizes_of(sample), []).append(sample)
    ordered = sorted(groups, key=lambda sizes: (sum(one == 1 for shape in sizes for one in shape), -len(groups[sizes])))
    found = [groups[sizes] for sizes in ordered]
    if max_batch_size:
        least = max(LEAST, max_batch_size, len(found[0]))
        found[0] = list(itertools.islice(itertools.cycle(found[0]), least))
    return SampleSet(tuple(itertools.chain(*found)), max_batch_size > 0)


def constant_axes(specs: Sequence[TensorSpec], samples: Sequence[Sample]) -> list[tuple[str, int, int]]:
    """Axes that may have any size, and have one and the same in all samples: the input, the axis, its size."""
    found = []
    for spec in specs:
        for axis in (number for number, size in enumerate(spec.shape) if size == ANY_SIZE):
            sizes = {sample.tensors[spec.name].shape[axis] for sample in samples}
            if len(sizes) == 1:
                found.append((spec.name, axis, sizes.pop()))
    return found


def cut(samples: Sequence[Sample], axes: Sequence[tuple[str, int, int]]) -> list[Sample]:
    """The first few samples, by one shorter on these axes where they are longer than one, as another size to try."""
    import torch

    longer = [(name, axis, size) for name, axis, size in axes if size > 1]
    if not longer:
        return []
    found = []
    for sample in samples[:FEW]:
        tensors = dict(sample.tensors)
        for name, axis, size in longer:
            tensors[name] = torch.narrow(tensors[name], axis, 0, size - 1)
        found.append(replace(sample, name=f"{sample.name}, cut by one", tensors=tensors))
    return found
