"""Detections of one picture, and the ways to them: the network's own pipeline, and raw answers decoded in PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from builder.data.recipe.placing import Placement
from builder.errors import ManifestError
from builder.steps.detections import DetectionSettings

if TYPE_CHECKING:
    import torch


MOST_EMPTY = 0.5
"""Of all boxes: networks pad what they give with some."""


class Found(NamedTuple):
    """The best first."""

    boxes: torch.Tensor
    """float32 [n, 4]: x1, y1, x2, y2 in pixels of the upright picture."""
    scores: torch.Tensor
    """float32 [n]"""
    classes: torch.Tensor
    """int [n]"""

    def above(self, threshold: float) -> Found:
        kept = self.scores > threshold
        return Found(self.boxes[kept], self.scores[kept], self.classes[kept])


def best(everything: Found, placement: Placement, settings: DetectionSettings) -> Found:
    """What a detector's own post-processing gives, as clients get it: within the picture, in order, not too many."""
    from torchvision.ops import batched_nms, clip_boxes_to_image

    boxes = clip_boxes_to_image(everything.boxes, [placement.picture_height, placement.picture_width])
    order = everything.scores.argsort(descending=True, stable=True)
    if settings.iou_threshold < 1:
        order = batched_nms(boxes, everything.scores, everything.classes, settings.iou_threshold)
    kept = order[: settings.max_detections]
    return Found(boxes[kept], everything.scores[kept], everything.classes[kept])


def decoded(settings: DetectionSettings, answer: list[torch.Tensor], placement: Placement) -> Found:
    """The raw answer for one picture, with every score. It shares nothing with the served step but what it is told."""
    import torch
    from torchvision.ops import batched_nms, box_convert, clip_boxes_to_image

    boxes, table = (answer[0][:4].T, answer[0][4:].T) if settings.layout == "yolo" else answer
    table = _activated(table.float(), settings.activation)
    high, wide = settings.network_size
    boxes = box_convert(boxes.float(), settings.box, "xyxy")
    if settings.normalized:
        boxes = boxes * torch.tensor([wide, high, wide, high])
    if ((boxes[:, 2:] <= boxes[:, :2]).any(1)).float().mean() > MOST_EMPTY:
        raise ManifestError(
            f"as `box: {settings.box}` most of the network's boxes are empty or inside out; say whether they are xyxy, "
            "cxcywh or xywh. Of two tensors [B, N, 4] the boxes come first"
        )
    rows, kinds = _pairs(table, settings)
    corner = torch.tensor([placement.left, placement.top] * 2, dtype=torch.float32)
    inside = clip_boxes_to_image(boxes[rows] - corner, [placement.height, placement.width])
    solid = ~(inside[:, 2:] <= inside[:, :2]).any(1)
    inside, rows, kinds = inside[solid], rows[solid], kinds[solid]
    scores = table[rows, kinds]
    kept = batched_nms(inside, scores, kinds, settings.iou_threshold)[: settings.max_detections]
    scale = [placement.picture_width / placement.width, placement.picture_height / placement.height]
    return Found(inside[kept] * torch.tensor(scale * 2), scores[kept], kinds[kept])


def _activated(table: torch.Tensor, activation: str) -> torch.Tensor:
    return {"none": table, "sigmoid": table.sigmoid(), "softmax": table.softmax(1)}[activation]


def _pairs(table: torch.Tensor, settings: DetectionSettings) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and classes of what may be a detection."""
    import torch

    possible = ~(table <= 0)  # NaN, too, so that it is seen
    if settings.background is not None:
        possible[:, settings.background] = False
    if settings.layout == "yolo":
        best = torch.zeros_like(possible)
        possible &= best.scatter(1, table.argmax(1, keepdim=True), True)
    rows, kinds = possible.nonzero(as_tuple=True)
    return rows, kinds
