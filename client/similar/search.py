"""The nearest of many vectors, and pairs that are nearly the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from client.errors import InvalidInput
from client.similar.vectors import Vectors, unit

if TYPE_CHECKING:
    from client.types import Array

BLOCK = 2048
"""Vectors that are compared with as many at a time: 16 MB of cosines."""
HELD = 1_000_000
"""Pairs that are held at a time, beside those of a single block."""
ROUNDING = 2e-6
"""Of cosines in float32, by which a vector's with itself may miss 1."""


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
    if not to.any():
        raise InvalidInput("its vector is all zeros, which nothing is like")
    cosines = (vectors.units @ unit(to[None].astype(np.float32))[0]).clip(-1, 1)
    order = np.argsort(-cosines, kind="stable")[:top]
    return [Near(vectors.names[place], float(cosines[place])) for place in order]


def duplicates(vectors: Vectors, least: float) -> Iterator[Pair]:
    """Every pair whose cosine is at least this, in the order of their first ones."""
    names = vectors.names
    for start in range(0, len(names), BLOCK):
        for firsts, seconds, cosines in _pairs(vectors.units, start, min(start + BLOCK, len(names)), least):
            for first, second, cosine in zip(firsts.tolist(), seconds.tolist(), cosines.tolist(), strict=True):
                yield Pair(names[first], names[second], cosine)


def _pairs(units: Array, start: int, end: int, least: float) -> Iterator[tuple[Array, Array, Array]]:
    """Pairs whose first one is in [start, end), in order: places and cosines. Where they are many, in smaller parts."""
    import numpy as np

    parts: list[tuple[Array, Array, Array]] = []
    for other in range(start, len(units), BLOCK):
        parts.append(_tile(units, start, end, other, least))
        if sum(len(cosines) for *_, cosines in parts) > HELD and end - start > 1:
            middle = (start + end) // 2
            del parts
            yield from _pairs(units, start, middle, least)
            yield from _pairs(units, middle, end, least)
            return
    firsts, seconds, cosines = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(firsts, kind="stable")  # within one, the seconds are in order already
    yield firsts[order], seconds[order], cosines[order]


def _tile(units: Array, start: int, end: int, other: int, least: float) -> tuple[Array, Array, Array]:
    import numpy as np

    cosines = units[start:end] @ units[other : other + BLOCK].T
    rows, columns = np.divmod(np.flatnonzero(cosines >= least - ROUNDING), cosines.shape[1])  # nonzero() is slow in 2-D
    is_pair = start + rows < other + columns
    rows, columns = rows[is_pair], columns[is_pair]
    return start + rows, other + columns, cosines[rows, columns].clip(-1, 1)
