"""Whether what a trained network gives can be of the layout that its entry says: else nonsense would be served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.steps.detections import DetectionSettings
from builder.tasks.task import Entry

if TYPE_CHECKING:
    import torch

MOST_SHARE = 16.0
"""A coordinate beyond it is no share of a picture."""
LEAST_PIXELS = 2.0
"""Boxes in pixels are not all within the first two of the input."""


def require(entry: Entry, settings: DetectionSettings, answer: Sequence[torch.Tensor]) -> None:
    """`answer` has the tensors of the layout, [B, ...]. Raises ManifestError."""
    boxes, scores = (answer[0][:, :4], answer[0][:, 4:]) if settings.layout == "yolo" else (answer[0], answer[1])
    if not boxes.numel() or not scores.numel():
        return
    furthest = float(boxes.abs().max())
    if settings.normalized and furthest > MOST_SHARE:
        raise entry.error(
            f"`normalized: true` says that boxes are shares of the input, and the network gives coordinates up to "
            f"{furthest:.4g}, which are pixels: leave it out",
            "output",
        )
    if not settings.normalized and 0 < furthest <= LEAST_PIXELS:
        raise entry.error(
            f"boxes are in pixels of the input, and the network gives no coordinate beyond {furthest:.4g}, as shares "
            "of it have: say `normalized: true`",
            "output",
        )
    if settings.activation != "none" and float(scores.min()) >= 0 and 0 < float(scores.max()) <= 1:
        raise entry.error(
            f"`activation: {settings.activation}` makes probabilities of logits, and the network gives scores from "
            f"{float(scores.min()):.3g} to {float(scores.max()):.3g}, which are probabilities already: leave it out",
            "output",
        )
