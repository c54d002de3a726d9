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


def match(ours: Found, theirs: Found, rules: Rules, spare: Found | None = None) -> Match:
    """`ours` are the network's; `spare` is what it would find in place of some of these, if rounding fell otherwise."""
    partners = _partners(overlaps(ours, theirs), rules.match_iou)
    mine, yours = [pair[0] for pair in partners], [pair[1] for pair in partners]
    left, right = _others(ours, mine), _others(theirs, yours)
    least = _edge(ours, theirs, rules)
    exchanged = _exchanged(theirs, right, spare, rules)
    missing = [i for i in left if ours.scores[i] > least and not _gave_way(ours, i, theirs, exchanged, rules)]
    added = [i for i in right if theirs.scores[i] > least and i not in exchanged]
    box = (ours.boxes[mine] - theirs.boxes[yours]).abs()
    score = (ours.scores[mine] - theirs.scores[yours]).abs()
    return Match(
        len(partners), len(missing), len(added), len(left) + len(right) - len(missing) - len(added),
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


def _others(found: Found, matched: list[int]) -> list[int]:
    return sorted(set(range(len(found.scores))) - set(matched))


def _edge(ours: Found, theirs: Found, rules: Rules) -> float:
    """Scores up to this one may be found or not."""
    last = [side.scores.min().item() for side in (ours, theirs) if len(side.scores) >= rules.most]
    return max([rules.threshold, *last]) + rules.score_tie


def _exchanged(theirs: Found, alone: list[int], spare: Found | None, rules: Rules) -> list[int]:
    """Those of the others that the network has as well, but for one of its own that overlaps them."""
    if spare is None or not alone or not len(spare.scores):
        return []
    known = (overlaps(_part(theirs, alone), spare) >= rules.match_iou).any(1).tolist()
    return [i for i, is_known in zip(alone, known, strict=True) if is_known]


def _gave_way(ours: Found, place: int, theirs: Found, exchanged: list[int], rules: Rules) -> bool:
    """Whether the others have one of these in its place."""
    if not exchanged:
        return False
    likeness = overlaps(_part(ours, [place]), _part(theirs, exchanged))
    return bool((likeness > rules.iou_threshold - IOU_TIE).any())


def _part(found: Found, places: list[int]) -> Found:
    return Found(found.boxes[places], found.scores[places], found.classes[places])


def spares(ours: Found, candidates: Found, rules: Rules) -> Found:
    """The candidates that one that is found has suppressed just about: of an equal score, or an overlap that barely
    suffices."""
    likeness = overlaps(ours, candidates)
    near = (ours.scores[:, None] - candidates.scores[None]).abs() <= rules.score_tie
    border = (likeness - rules.iou_threshold).abs() <= IOU_TIE
    wanted = (((likeness > rules.iou_threshold - IOU_TIE) & near) | border).any(0).nonzero()[:, 0].tolist()
    return _part(candidates, wanted)
