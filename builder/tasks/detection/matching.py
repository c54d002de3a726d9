"""Detections matched: which of two lists are the same, and which rounding alone decides."""

from __future__ import annotations

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
    score_tie: float
    """Scores as near as this may change places."""
    threshold: float
    iou_threshold: float
    most: int


@dataclass(frozen=True)
class Match:
    """Two lists of one picture's detections."""

    pairs: int
    missing: int
    """Of the first, without a partner in the second, though nothing was undecided."""
    added: int
    """The other way round."""
    undecided: int
    """Of both, without a partner: at the threshold, at the end of the list, or exchanged for an equal rival."""
    box_error: float
    """Pixels."""
    score_error: float


def match(ours: Found, theirs: Found, rules: Rules) -> Match:
    likeness = overlaps(ours, theirs)
    partners = _partners(likeness, rules.match_iou)
    mine, yours = [pair[0] for pair in partners], [pair[1] for pair in partners]
    missing = _decided(ours, theirs, set(mine), likeness, rules)
    added = _decided(theirs, ours, set(yours), likeness.T, rules)
    alone = len(ours.scores) + len(theirs.scores) - 2 * len(partners)
    box = (ours.boxes[mine] - theirs.boxes[yours]).abs()
    score = (ours.scores[mine] - theirs.scores[yours]).abs()
    return Match(
        len(partners), missing, added, alone - missing - added,
        box.max().item() if mine else 0.0, score.max().item() if mine else 0.0,
    )  # fmt: skip


def overlaps(ours: Found, theirs: Found) -> torch.Tensor:
    """Intersection over union [n, m]; 0 for other classes, 1 for the same corners."""
    from torchvision.ops import box_iou

    found: torch.Tensor = box_iou(ours.boxes.double(), theirs.boxes.double()).nan_to_num(nan=0.0)
    same = (ours.boxes[:, None] - theirs.boxes[None]).abs().amax(-1) <= SAME_CORNERS
    return found.masked_fill(same, 1.0) * (ours.classes[:, None] == theirs.classes[None])


def _partners(likeness: torch.Tensor, least: float) -> list[tuple[int, int]]:
    """One to one, the most alike first."""
    places = (likeness >= least).nonzero()
    order = likeness[places[:, 0], places[:, 1]].argsort(descending=True)
    mine: set[int] = set()
    yours: set[int] = set()
    found = []
    for first, second in places[order].tolist():
        if first not in mine and second not in yours:
            mine.add(first)
            yours.add(second)
            found.append((first, second))
    return found


def _decided(ours: Found, theirs: Found, matched: set[int], likeness: torch.Tensor, rules: Rules) -> int:
    """How many of ours lack a partner that nothing excuses."""
    last = ours.scores.min().item() if len(ours.scores) else 0.0
    count = 0
    for place, score in enumerate(ours.scores.tolist()):
        if place in matched or score - rules.threshold <= rules.score_tie:
            continue
        if len(ours.scores) >= rules.most and score - last <= rules.score_tie:
            continue
        count += not _has_rival(score, likeness[place], theirs, rules)
    return count


def _has_rival(score: float, likeness: torch.Tensor, theirs: Found, rules: Rules) -> bool:
    """Whether the others kept one of an equal score that overlaps it, or one that overlaps it just about enough."""
    near = (theirs.scores - score).abs() <= rules.score_tie
    suppresses = likeness > rules.iou_threshold - IOU_TIE
    border = (likeness - rules.iou_threshold).abs() <= IOU_TIE
    return bool((suppresses & near).any() or border.any())
