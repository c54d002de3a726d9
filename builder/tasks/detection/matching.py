"""Detections matched: which of two lists are the same, and which rounding alone decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.tasks.detection.found import Found

if TYPE_CHECKING:
    import torch

SAME_CORNERS = 0.01
"""Pixels: boxes without an area have no intersection over union."""
IOU_TIE = 0.01
"""Of the NMS threshold: as near to it, rounding decides whether one box suppresses another."""


@dataclass(frozen=True)
class Rules:
    """What counts as the same."""

    match_iou: float
    box_error: float | None
    """Pixels, where there is a limit."""
    score_tie: float
    """Scores as near as this may change places."""
    threshold: float
    iou_threshold: float
    most: int


@dataclass(frozen=True)
class Match:
    """The detections of one picture, the network's and an artifact's."""

    pairs: int
    missing: int
    """Of the network's, without a partner, though nothing was undecided."""
    added: int
    """The other way round."""
    undecided: int
    """Of both: at the threshold, at the end of the list, or exchanged for a rival of equal score."""
    box_error: float
    """Pixels."""
    score_error: float


def match(ours: Found, theirs: Found, rules: Rules, candidates: Callable[[], Found]) -> Match:
    """`candidates` gives all that the artifact has, before anything is suppressed: one of ours that is among them, and
    not among its detections, lost to a rival that ties with it; it is no detection that the artifact does not see."""
    likeness = overlaps(ours, theirs)
    near = _near(ours, theirs, rules)
    apart = (ours.scores[:, None] - theirs.scores[None]).abs()
    pairs = _partners(likeness * near, apart, rules.match_iou)
    loose = _partners(_without(likeness, pairs), apart, rules.match_iou)
    alone = sorted(set(range(len(ours.scores))) - {mine for mine, _ in pairs})
    lost = _lost(ours, alone, rules, candidates) if alone else set()
    pairs += [pair for pair in loose if pair[0] not in lost]
    mine, yours = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    missing = [place for place in alone if place not in lost and place not in mine and not _at_end(ours, place, rules)]
    added = [
        place
        for place in range(len(theirs.scores))
        if place not in yours and not _at_end(theirs, place, rules) and not _replaces(likeness[:, place], lost, rules)
    ]
    whole = len(ours.scores) + len(theirs.scores) - 2 * len(pairs)
    box = (ours.boxes[mine] - theirs.boxes[yours]).abs()
    score = (ours.scores[mine] - theirs.scores[yours]).abs()
    return Match(
        len(pairs), len(missing), len(added), whole - len(missing) - len(added),
        box.max().item() if mine else 0.0, score.max().item() if mine else 0.0,
    )  # fmt: skip


def overlaps(ours: Found, theirs: Found) -> torch.Tensor:
    """Intersection over union [n, m]; 0 for other classes, 1 for the same corners."""
    from torchvision.ops import box_iou

    found: torch.Tensor = box_iou(ours.boxes.double(), theirs.boxes.double()).nan_to_num(nan=0.0)
    return found.masked_fill(_corners(ours, theirs) <= SAME_CORNERS, 1.0) * (
        ours.classes[:, None] == theirs.classes[None]
    )


def _corners(ours: Found, theirs: Found) -> torch.Tensor:
    """The largest difference of a coordinate [n, m], pixels."""
    return (ours.boxes[:, None] - theirs.boxes[None]).abs().amax(-1)


def _near(ours: Found, theirs: Found, rules: Rules) -> torch.Tensor:
    """Whether two boxes may be one detection, as far as corners and scores tell [n, m]."""
    near = (ours.scores[:, None] - theirs.scores[None]).abs() <= rules.score_tie
    return near if rules.box_error is None else near & (_corners(ours, theirs) <= rules.box_error)


def _partners(likeness: torch.Tensor, apart: torch.Tensor, least: float) -> list[tuple[int, int]]:
    """One to one, the most alike first, and of those as alike, the ones whose scores are the least apart: where nothing
    is suppressed, several boxes have one place.
    """
    places = (likeness >= least).nonzero()
    places = places[apart[places[:, 0], places[:, 1]].argsort(stable=True)]
    order = likeness[places[:, 0], places[:, 1]].argsort(descending=True, stable=True)
    mine: set[int] = set()
    yours: set[int] = set()
    found = []
    for first, second in places[order].tolist():
        if first not in mine and second not in yours:
            mine.add(first)
            yours.add(second)
            found.append((first, second))
    return found


def _without(likeness: torch.Tensor, pairs: list[tuple[int, int]]) -> torch.Tensor:
    rest = likeness.clone()
    for mine, yours in pairs:
        rest[mine, :], rest[:, yours] = 0, 0
    return rest


def _lost(ours: Found, alone: list[int], rules: Rules, candidates: Callable[[], Found]) -> set[int]:
    """Those of ours that the artifact has seen, too."""
    some, seen = Found(*(part[alone] for part in ours)), candidates()
    same = (overlaps(some, seen) >= rules.match_iou) & _near(some, seen, rules)
    return {place for place, known in zip(alone, same.any(1).tolist(), strict=True) if known}


def _at_end(found: Found, place: int, rules: Rules) -> bool:
    """Whether rounding decides that it is in the list at all."""
    score = found.scores[place].item()
    is_last = len(found.scores) >= rules.most and score - found.scores.min().item() <= rules.score_tie
    return is_last or score - rules.threshold <= rules.score_tie


def _replaces(likeness: torch.Tensor, lost: set[int], rules: Rules) -> bool:
    """Whether it suppressed one that was lost, or is there since one was lost that would have suppressed it."""
    return any(likeness[place] > rules.iou_threshold - IOU_TIE for place in lost)
