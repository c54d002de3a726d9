"""An artifact's masks against its network's, and both against true ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from builder.errors import VerificationError
from builder.tasks.segmentation.limits import Tolerance
from builder.types import Verification

if TYPE_CHECKING:
    import torch

NO_CLASS = 255
CLASSES = 256


@dataclass(frozen=True)
class SegmentationVerification(Verification):
    """How an artifact's masks differ from its network's, over all images and batch sizes.

    `max_abs_error` is the worst image's share of pixels with another class, `mean_abs_error` that of all.
    """

    pixel_agreement: float
    """Share of equal pixels of the worst image, 0..1. Pixels whose best classes tie count neither way."""
    mean_iou: float
    """Mean intersection over union, of the classes in the network's or in the artifact's masks, whichever is less."""
    undecided: float
    """Share of the pixels that tie."""
    network_miou: float | None
    artifact_miou: float | None
    """Mean IoU with the true masks, where they are given."""


@dataclass
class Overlap:
    """Pixels by two classes, of masks that are compared one after the other."""

    counts: Any = None
    """int64 [256, 256]"""

    def add(self, ours: torch.Tensor, theirs: torch.Tensor, counted: torch.Tensor | None = None) -> None:
        import torch

        first, second = (ours, theirs) if counted is None else (ours[counted], theirs[counted])
        pairs = first.flatten().long() * CLASSES + second.flatten().long()
        found = torch.bincount(pairs, minlength=CLASSES * CLASSES).reshape(CLASSES, CLASSES)
        self.counts = found if self.counts is None else self.counts + found

    def mean_iou(self, axis: int) -> float:
        """Over the classes that the first (0) or the second (1) masks have."""
        if self.counts is None:
            return 1.0
        counts = self.counts.double()
        rows, columns, both = counts.sum(1), counts.sum(0), counts.diag()
        present = (rows if axis == 0 else columns) > 0
        if not present.any():
            return 1.0
        return float((both / (rows + columns - both).clamp_min(1))[present].mean())


@dataclass
class Tally:
    """Figures of one artifact, gathered image by image."""

    overlap: Overlap = field(default_factory=Overlap)
    shares: list[float] = field(default_factory=list)
    undecided: list[float] = field(default_factory=list)

    def add(self, ours: torch.Tensor, theirs: torch.Tensor, decided: torch.Tensor) -> None:
        """uint8 [H, W] of the network and the artifact; bool [H, W]."""
        different = (ours != theirs) & decided
        self.shares.append(different.sum().item() / max(1, int(decided.sum())))
        self.undecided.append(1 - decided.double().mean().item())
        self.overlap.add(ours, theirs, decided)

    def figures(
        self, sizes: tuple[int, ...], samples: int, truths: tuple[float | None, float | None]
    ) -> SegmentationVerification:
        return SegmentationVerification(
            batch_sizes=sizes,
            samples=samples,
            max_abs_error=max(self.shares),
            mean_abs_error=sum(self.shares) / len(self.shares),
            pixel_agreement=1 - max(self.shares),
            mean_iou=min(self.overlap.mean_iou(0), self.overlap.mean_iou(1)),
            undecided=sum(self.undecided) / len(self.undecided),
            network_miou=truths[0],
            artifact_miou=truths[1],
        )


def miou(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float | None:
    """Of true masks and found ones, uint8 [H, W], over the classes that the true ones have; None without any."""
    overlap = Overlap()
    for truth, found in pairs:
        overlap.add(truth, found, truth != NO_CLASS)
    return None if overlap.counts is None else overlap.mean_iou(0)


def require(found: SegmentationVerification, allowed: Tolerance, what: str) -> None:
    """Raise VerificationError, with the figures, unless `found` is within what is allowed."""
    failures = _failures(found, allowed)
    if failures:
        raise VerificationError(
            f"{what} does not compute what the network computes: {'; '.join(failures)}; {found.samples} images at "
            f"batch sizes {', '.join(map(str, found.batch_sizes))}. Nothing was published. If that is too strict for "
            "the precision, `tolerance:` sets the limits; another `format:` may fit forward()"
        )


def _failures(found: SegmentationVerification, allowed: Tolerance) -> Sequence[str]:
    failures = []
    for key, text in (("pixel_agreement", "equal pixels of the worst image"), ("mean_iou", "mean IoU of the masks")):
        value, limit = getattr(found, key), getattr(allowed, key)
        if limit is not None and not value >= limit:
            failures.append(f"{text}: {value:.3%} (limit {limit:.3%})")
    ours, theirs, limit = found.network_miou, found.artifact_miou, allowed.miou_loss
    if limit is not None and ours is not None and theirs is not None and not ours - theirs <= limit + 1e-9:
        failures.append(f"mean IoU with the true masks falls from {ours:.4f} to {theirs:.4f} (limit {limit:.4f})")
    return failures
