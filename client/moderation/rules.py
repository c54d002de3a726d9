"""Which classes are forbidden, and when an image is."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from client.errors import InvalidInput, InvalidOption
from client.types import Detection


@dataclass(frozen=True)
class Decision:
    is_forbidden: bool
    score: float = 0.0
    class_id: int | None = None
    label: str = ""


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

    def decide(self, probabilities: Sequence[float]) -> Decision:
        score, worst = self.score(probabilities), self.worst(probabilities)
        return Decision(score >= self.threshold, score, worst, self.classes[worst])


@dataclass(frozen=True)
class Objects:
    """A picture is forbidden if one object of a label has at least that label's score.

    By label, not by number: what a detector finds is named by the version that found it.
    """

    least: Mapping[str, float]
    """Scores by label."""

    def decide(self, detections: Sequence[Detection]) -> Decision:
        found = [(one.score >= self.least[one.label], one.score, one) for one in detections if one.label in self.least]
        if not found:
            return Decision(False)
        is_forbidden, score, worst = max(found, key=lambda one: one[:2])
        return Decision(is_forbidden, score, worst.class_id, worst.label)


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
            raise _unknown(word, labels, numbers)
        found[number] = labels[number]
    return Rules(found, threshold, several)


def resolve_objects(forbidden: Sequence[str], labels: Sequence[str], threshold: float) -> Objects:
    """`person:0.6` or `person`, which is held to the threshold; names are the detector's. Raises InvalidInput."""
    numbers = {label.casefold(): number for number, label in reversed(list(enumerate(labels)))}
    least: dict[str, float] = {}
    for given in forbidden:
        word, score = _with_score(given, numbers, threshold)
        number = numbers.get(word.casefold(), int(word) if word.isdecimal() else -1)
        if number < 0 or (labels and number >= len(labels)):
            raise _unknown(word, dict(enumerate(labels)), numbers)
        least[labels[number] if labels and labels[number] else str(number)] = score
    return Objects(least)


def _with_score(given: str, numbers: Mapping[str, int], threshold: float) -> tuple[str, float]:
    """A label may itself have a colon."""
    word, colon, text = given.rpartition(":")
    if given.casefold() in numbers or not colon:
        return given, threshold
    try:
        score = float(text)
    except ValueError:
        return given, threshold
    if not 0 <= score <= 1:
        raise InvalidOption(f"--forbid {given}: a score is from 0 to 1")
    return word.strip(), score


def _unknown(word: str, labels: Mapping[int, str], numbers: Mapping[str, int]) -> InvalidInput:
    close = difflib.get_close_matches(word.casefold(), list(numbers), n=1)
    hint = f"; did you mean {labels[numbers[close[0]]]!r}?" if close else ""
    return InvalidInput(f"the model has no class {word!r}: it has {len(labels)}, numbered from 0{hint}")
