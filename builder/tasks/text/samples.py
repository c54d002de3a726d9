"""Texts as a network is run on them: alone, padded, and in batches of several sizes, whose lengths differ."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from builder.data.texts import Text
from builder.steps.tokenizer import TokenizerSettings, tokenizer

if TYPE_CHECKING:
    import torch

    from builder.runtimes.tokenizer.model import Tokenizer

FEW = 6
UNTRACED = 3
"""A batch size that no network is converted at (that is 2); tried with the texts in another company and order."""
PADDED = 7
"""Tokens of padding that a text alone is tried with, beside those of its longest neighbour."""
LEAST_TOKENS = 3
"""Of the texts that networks are converted with: 1 and the batch's own size mean something else to exporters."""


@dataclass(frozen=True)
class Run:
    """One batch: the numbers of its texts, and how many tokens wide it is at least."""

    numbers: tuple[int, ...]
    width: int = 1


@dataclass(frozen=True)
class Pass:
    """The first texts, or all, in batches of one size."""

    runs: tuple[Run, ...]

    @property
    def numbers(self) -> list[int]:
        return [number for run in self.runs for number in run.numbers]


@dataclass(frozen=True)
class TextSamples:
    """It is the `Samples` of `builder.types`."""

    texts: tuple[Text, ...]
    settings: TokenizerSettings
    inputs: tuple[str, ...]
    """The network's, in the order of the step's outputs."""
    classes: tuple[int | None, ...] = field(default=())
    """Of no text it is known which class is right."""

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def views(self) -> Sequence[Text]:
        return self.texts

    def name(self, number: int) -> str:
        return self.texts[number].name

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return tokenizer(self.settings)

    def batches(self, size: int, count: int | None = None) -> Iterator[dict[str, torch.Tensor]]:
        """int64 [size, S] of each input, padded to the longest text of the batch."""
        return (self.batch(Run(numbers)) for numbers in chunks(range(len(self.texts[:count])), size))

    def batch(self, run: Run) -> dict[str, torch.Tensor]:
        import torch

        found = self.tokenizer.encoded([self.texts[number].data for number in run.numbers])
        rows = self.tokenizer.rows(found, run.width)
        return {name: torch.from_numpy(one) for name, one in zip(self.inputs, rows, strict=True)}

    def passes(self, max_batch_size: int) -> tuple[Pass, ...]:
        """All texts alone and, last, at the largest size; the first few padded, and at the sizes between."""
        few = range(min(FEW, len(self.texts)))
        found = [Pass(tuple(Run((number,), self._wide(few)) for number in few))]
        for size in batch_sizes(max_batch_size):
            wanted = range(len(self.texts)) if size in (1, max_batch_size) else few
            ordered = list(wanted)[::-1] if size == UNTRACED != max_batch_size else list(wanted)
            found.append(Pass(tuple(map(Run, chunks(ordered, size)))))
        return tuple(found)

    def _wide(self, few: Sequence[int]) -> int:
        """Wider than any of them, as far as the network takes it."""
        longest = max(len(one.ids) for one in self.tokenizer.encoded([self.texts[n].data for n in few]))
        return min(self.settings.max_length, longest + PADDED)


def arranged(
    texts: Sequence[Text], settings: TokenizerSettings, inputs: tuple[str, ...], own: Sequence[Text], least: int
) -> TextSamples:
    """Two of some length and of different ones first, with which networks are converted; `own` help where there are
    none, or fewer than `least` of all."""
    read = tokenizer(settings)
    found = list(texts)
    for text in itertools.islice(itertools.cycle(own), len(own) + least):
        if len(found) >= max(2, least) and _pair(found, read):
            break
        found.append(text)
    first = _pair(found, read) or found[:2]
    rest = [text for text in found if not any(text is one for one in first)]
    return TextSamples((*first, *rest), settings, inputs)


def _pair(texts: Sequence[Text], read: Tokenizer) -> list[Text]:
    """The first of LEAST_TOKENS or more, and the first of those that is of another length."""
    lengths = [len(one.ids) for one in read.encoded([text.data for text in texts])]
    long = [number for number, length in enumerate(lengths) if length >= LEAST_TOKENS]
    others = [number for number in long if lengths[number] != lengths[long[0]]]
    return [texts[long[0]], texts[others[0]]] if others else []


def batch_sizes(max_batch_size: int) -> tuple[int, ...]:
    return tuple(sorted({min(size, max_batch_size) for size in (1, 2, UNTRACED, max_batch_size)}))


def chunks(numbers: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(numbers[start : start + size]) for start in range(0, len(numbers), size)]
