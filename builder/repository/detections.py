"""Recorded detections held to a server's: in any order, for which of two with nearly one score is first is chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from builder.triton.signature import BOXES_OUTPUT, CLASSES_OUTPUT, COUNT_OUTPUT, SCORES_OUTPUT

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

NAMES = (BOXES_OUTPUT, SCORES_OUTPUT, CLASSES_OUTPUT, COUNT_OUTPUT)
SAME_BOX = 0.9
"""Intersection over union."""
MOST_OTHERS = 0.1
"""Of all detections: those at the threshold, and where two overlap with nearly one score, come and go by rounding."""
TINY = 1e-6


def difference(expected: Mapping[str, Array], found: Mapping[str, Array], tolerance: float) -> str:
    """What is wrong with an answer of NAMES, [B, ...]; nothing where it is right. `tolerance` is the share of the
    highest score by which scores may differ."""
    for row in range(len(expected[COUNT_OUTPUT])):
        ours, theirs = _of_row(expected, row), _of_row(found, row)
        most = max(len(ours[1]), len(theirs[1]))
        others = most - _partners(ours, theirs, tolerance)
        if others > MOST_OTHERS * most:
            return f"{others} of {most} detections are others than were recorded, allowed {int(MOST_OTHERS * most)}"
    return ""


def _of_row(answer: Mapping[str, Array], row: int) -> tuple[Array, Array, Array]:
    """Boxes, scores and classes of one picture, without the padding."""
    count = max(0, int(answer[COUNT_OUTPUT][row].ravel()[0]))
    boxes, scores, classes = (answer[name][row][:count] for name in NAMES[:3])
    return boxes, scores, classes


def _partners(ours: tuple[Array, Array, Array], theirs: tuple[Array, Array, Array], tolerance: float) -> int:
    """How many of ours are there, each once."""
    import numpy as np

    near = tolerance * max(float(ours[1].max(initial=0)), TINY)
    same = ours[2][:, None] == theirs[2][None]
    same &= np.abs(ours[1][:, None] - theirs[1][None]) <= near
    likeness = np.where(same, _overlaps(ours[0], theirs[0]), 0)
    count = 0
    for row in likeness:
        best = int(row.argmax()) if len(row) else 0
        if len(row) and row[best] >= SAME_BOX:
            likeness[:, best] = 0
            count += 1
    return count


def _overlaps(ours: Array, theirs: Array) -> Array:
    """Intersection over union [n, m]; 1 for the same corners, whatever area they have."""
    import numpy as np

    ours, theirs = ours.astype("f8")[:, None], theirs.astype("f8")[None]
    sides = np.minimum(ours[..., 2:], theirs[..., 2:]) - np.maximum(ours[..., :2], theirs[..., :2])
    shared = sides.clip(min=0).prod(-1)
    whole = sum((boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (ours, theirs)) - shared
    overlap: Array = np.where((ours == theirs).all(-1), 1.0, shared / np.maximum(whole, TINY))
    return overlap
