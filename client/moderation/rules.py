"""Which classes are forbidden, and when an image is."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from client.errors import InvalidInput


@dataclass(frozen=True)
class Rules:
    """The probabilities of all forbidden classes together decide: an image is often several of them a little.

    Where several labels are right at once, they do not share one probability, and the most probable one decides.
    """

    classes: Mapping[int, str]
    """Forbidden class numbers, with their labels."""
    threshold: float
    several: bool = False

    def score(self, probabilities: Sequence[float]) -> float:
        found = [probabilities[number] for number in self.classes]
        return float(max(found, default=0.0) if self.several else sum(found))

    def worst(self, probabilities: Sequence[float]) -> int:
        """The most probable of the forbidden classes."""
        return max(self.classes, key=lambda number: probabilities[number])


def words(given: Sequence[str]) -> list[str]:
    """`954,955,"dog: large, brown"` -> its items; a label that has a comma is put in quotes."""
    return [word.strip() for row in csv.reader(given, skipinitialspace=True) for word in row if word.strip()]


def resolve(forbidden: Sequence[str], labels: Mapping[int, str], threshold: float, several: bool = False) -> Rules:
    """Numbers and labels as classes of the model. Raises InvalidInput for one that it has not."""
    numbers = {label.casefold(): number for number, label in labels.items()}
    found: dict[int, str] = {}
    for word in forbidden:
        number = numbers.get(word.casefold(), int(word) if word.isdecimal() else -1)
        if number not in labels:
            close = difflib.get_close_matches(word.casefold(), list(numbers), n=1)
            hint = f"; did you mean {labels[numbers[close[0]]]!r}?" if close else ""
            raise InvalidInput(f"the model has no class {word!r}: it has {len(labels)}, numbered from 0{hint}")
        found[number] = labels[number]
    return Rules(found, threshold, several)
