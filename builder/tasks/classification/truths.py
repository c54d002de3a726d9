"""Labelled images against a network's answers: whether its labels can be those of its classes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

# Of a network that only guesses, one in so many would be called worse than that.
RARE = 0.01
MOSTLY = 0.8
MOVED_IMAGES = 6
"""At least so many must speak for another order."""
SHOWN = 3


def remarks(
    answers: Sequence[int], truths: Sequence[int | None], classes: int, labels: tuple[str, ...] | None
) -> list[str]:
    """What the images' true classes say against the labels: fewer right answers than by guessing, or another order.

    `truths` is empty where no image is labelled.
    """
    known = [(truth, answers[i]) for i, truth in enumerate(truths) if truth is not None]
    right = sum(truth == answer for truth, answer in known)
    moved = _moved(known)
    is_worse = bool(known) and _at_most(right, len(known), 1 / classes) < RARE
    if not is_worse and not moved:
        return []
    worse = ", fewer than guessing would get" if is_worse else ""
    return [
        f"accuracy: the network is right on {right} of {len(known)} labelled images{worse}"
        f"{_swaps(moved, labels)}. The labels may be in another order than the network's classes, or the folders of "
        "the images named otherwise; then every answer is served under a wrong name. It may also be the recipe"
    ]


def _at_most(right: int, count: int, chance: float) -> float:
    """The probability of so few right answers, or fewer, if each were right by chance."""
    logs = [
        math.lgamma(count + 1) - math.lgamma(i + 1) - math.lgamma(count - i + 1)
        + i * math.log(chance) + (count - i) * math.log1p(-chance)
        for i in range(right + 1)
    ]  # fmt: skip
    return math.fsum(map(math.exp, logs))


def _moved(known: Sequence[tuple[int, int]]) -> dict[int, int]:
    """By class, the other class that nearly all its images get, where no two classes get the same; else empty."""
    answers: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for truth, answer in known:
        answers[truth][answer] += 1
    first = {truth: counted.most_common(1)[0] for truth, counted in answers.items()}
    usual = {truth: answer for truth, (answer, count) in first.items() if count >= MOSTLY * answers[truth].total()}
    moved = {truth: answer for truth, answer in usual.items() if truth != answer}
    images = sum(answers[truth].total() for truth in moved)
    is_order = len(set(usual.values())) == len(usual) and len(moved) > 1 and images >= MOVED_IMAGES
    return moved if is_order else {}


def _swaps(moved: dict[int, int], labels: tuple[str, ...] | None) -> str:
    def name(number: int) -> str:
        return repr(labels[number]) if labels else f"class {number}"

    pairs = [f"{name(truth)} is taken for {name(answer)}" for truth, answer in sorted(moved.items())[:SHOWN]]
    return f"; {', '.join(pairs)}{', ...' if len(moved) > SHOWN else ''}" if pairs else ""
