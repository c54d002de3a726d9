"""The nearest of many vectors, and pairs that are nearly the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from client.errors import InvalidInput
from client.similar.vectors import Vectors

if TYPE_CHECKING:
    from client.types import Array

BLOCK = 2048
"""Vectors that are compared with as many at a time: 16 MB of cosines."""


class Near(NamedTuple):
    name: str
    cosine: float


class Pair(NamedTuple):
    first: str
    second: str
    cosine: float


def nearest(vectors: Vectors, to: Array, top: int) -> list[Near]:
    """The `top` most alike, the best first; of equal ones the first. Raises InvalidInput for another length."""
    import numpy as np

    if to.shape != (vectors.units.shape[1],):
        raise InvalidInput(f"the vectors have {vectors.units.shape[1]} numbers, and the model gives {len(to)}")
    length = float(np.linalg.norm(to))
    if not length:
        raise InvalidInput("the picture's vector is all zeros, which nothing is like")
    cosines = vectors.units @ (to / np.float32(length))
    order = np.argsort(-cosines, kind="stable")[:top]
    return [Near(vectors.names[place], float(cosines[place])) for place in order]


def duplicates(vectors: Vectors, least: float) -> Iterator[Pair]:
    """Every pair whose cosine is at least this, in the order of their first ones."""
    import numpy as np

    units, names = vectors.units, vectors.names
    for start in range(0, len(units), BLOCK):
        rows = units[start : start + BLOCK]
        found: list[tuple[int, int, float]] = []
        for other in range(start, len(units), BLOCK):
            cosines = rows @ units[other : other + BLOCK].T
            for row, column in zip(*np.nonzero(cosines >= least), strict=True):
                if start + row < other + column:
                    found.append((start + int(row), other + int(column), float(cosines[row, column])))
        for first, second, cosine in sorted(found):
            yield Pair(names[first], names[second], cosine)
