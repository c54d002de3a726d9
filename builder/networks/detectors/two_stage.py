"""Faster R-CNN: proposals of a first network, and a second one that looks at each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from builder.networks.detectors.boxes import anchors, best, by_name, chosen, decoded, divided

if TYPE_CHECKING:
    import torch
    from torch import nn

TAKES_PLACEMENT = True
CANDIDATES = 5000
SMALLEST = 1e-2
"""torchvision drops boxes whose sides are shorter."""


def thresholds(module: Any) -> Any:
    return module.roi_heads


def classes(module: Any) -> int:
    return int(module.roi_heads.box_predictor.cls_score.out_features)


def taken_apart(module: Any, size: tuple[int, int]) -> tuple[nn.Module, Callable[[Any], tuple[torch.Tensor, ...]]]:
    from torch import nn

    references, shapes = anchors(module.rpn.anchor_generator, module.backbone, size)
    pooled = [name for name in shapes if name in module.roi_heads.box_roi_pool.featmap_names]
    scales = [2.0 ** round(math.log2(shapes[name][0] / size[0])) for name in pooled]
    _set_scales(module.roi_heads.box_roi_pool, scales)

    class TwoStage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.rpn, self.roi_heads = module.backbone, module.rpn, module.roi_heads
            self.register_buffer("references", references)

        def forward(self, pixels: torch.Tensor, placement: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
            extent = _extent(pixels, placement)
            features = by_name(self.backbone(pixels))
            proposals, are_real = _proposals(self.rpn, list(features.values()), self.get_buffer("references"), extent)
            regions = _regions(self.roi_heads.box_roi_pool, [features[name] for name in pooled], proposals, scales)
            logits, codes = self.roi_heads.box_predictor(self.roi_heads.box_head(regions))
            return _candidates(self.roi_heads.box_coder, logits, codes, proposals, are_real, extent)

    return TwoStage().eval(), tuple


def _set_scales(pool: Any, scales: Sequence[float]) -> None:
    """torchvision infers them once, of the first picture without its padding, which may be anything."""
    from torchvision.ops.poolers import LevelMapper

    low, high = (-int(math.log2(scales[end])) for end in (0, -1))
    mapper = LevelMapper(low, high, pool.canonical_scale, pool.canonical_level)
    pool.scales, pool.map_levels = list(scales), mapper


def _extent(pixels: torch.Tensor, placement: torch.Tensor | None) -> torch.Tensor:
    """float32 [B, 2]: height and width of the picture in the corner of the input."""
    import torch

    if placement is not None:
        return placement[:, 4:6].float()
    size = torch.tensor([pixels.shape[2], pixels.shape[3]], dtype=torch.float32, device=pixels.device)
    return size.expand(pixels.shape[0], 2)


def _clipped(boxes: torch.Tensor, extent: torch.Tensor) -> torch.Tensor:
    import torch

    shape = (-1, *([1] * (boxes.dim() - 2)))
    high, wide = extent[:, 0].reshape(shape), extent[:, 1].reshape(shape)
    left, top, right, bottom = boxes.clamp(min=0).unbind(-1)
    return torch.stack((left.minimum(wide), top.minimum(high), right.minimum(wide), bottom.minimum(high)), dim=-1)


def _are_larger(boxes: torch.Tensor, least: float) -> torch.Tensor:
    sides = boxes[..., 2:] - boxes[..., :2]
    return (sides[..., 0] >= least) & (sides[..., 1] >= least)


def _proposals(
    rpn: Any, features: list[torch.Tensor], references: torch.Tensor, extent: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes float32 [B, P, 4] for the second network, the best first, and whether each is one: the rest fills up.

    Places are never computed in half precision, which has no pixels apart that are beyond some hundreds.
    """
    import torch

    logits, codes = rpn.head(features)
    boxes, scores, start = [], [], 0
    for of_level, moves in zip(logits, codes, strict=True):
        values, places = best(of_level.permute(0, 2, 3, 1).flatten(1), rpn.pre_nms_top_n())
        count = of_level.shape[1] * of_level.shape[2] * of_level.shape[3]
        level = references[start : start + count]
        found = decoded(rpn.box_coder, chosen(_by_place(moves), places).float(), level[places].float())
        found = _clipped(found, extent)
        boxes.append(found)
        scores.append(_unsuppressed(found, values.float().sigmoid(), _are_larger(found, rpn.min_size), rpn.nms_thresh))
        start += count
    values, places = best(torch.cat(scores, 1), rpn.post_nms_top_n())
    return chosen(torch.cat(boxes, 1), places), values >= 0


def _by_place(moves: torch.Tensor) -> torch.Tensor:
    """[B, A * 4, H, W] -> [B, H * W * A, 4]"""
    count, _, high, wide = moves.shape
    return moves.reshape(count, -1, 4, high, wide).permute(0, 3, 4, 1, 2).reshape(count, -1, 4)


def _unsuppressed(boxes: torch.Tensor, scores: torch.Tensor, counted: torch.Tensor, limit: float) -> torch.Tensor:
    """Scores [B, N], and -1 for boxes that a better one of the same image overlaps, or that do not count.

    All images at once: each image's boxes are moved to a place of their own.
    """
    import torch
    from torchvision.ops import nms

    nothing = torch.full_like(scores, -1.0)
    values = torch.where(counted, scores, nothing)
    apart = boxes.flatten().amax(0) + 1
    places = torch.arange(boxes.shape[0], device=boxes.device).to(boxes.dtype).reshape(-1, 1, 1) * apart
    kept = nms((boxes + places).reshape(-1, 4), values.reshape(-1), limit)
    flags = torch.zeros_like(values).reshape(-1).scatter(0, kept, torch.ones_like(kept, dtype=values.dtype))
    return torch.where(flags.reshape(values.shape) > 0, values, nothing)


def _regions(pool: Any, features: list[torch.Tensor], proposals: torch.Tensor, scales: Sequence[float]) -> torch.Tensor:
    """What each proposal holds, [B * P, C, h, w], of the level of the pyramid that its size is for.

    Pooled in float32, which every kernel takes, and given in the features' own type.
    """
    import torch

    count, each = proposals.shape[:2]
    images = torch.arange(count, device=proposals.device).to(proposals.dtype).reshape(-1, 1, 1).expand(-1, each, 1)
    boxes = torch.cat((images, proposals), dim=-1).reshape(-1, 5)
    if len(scales) == 1:
        return _pooled(pool, features[0], boxes, scales[0])
    levels = _levels(pool, proposals.reshape(-1, 4), scales)
    found = features[0].new_zeros(boxes.shape[0], features[0].shape[1], *pool.output_size)
    for number, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        rows = torch.where(levels == number)[0]
        found = found.index_copy(0, rows, _pooled(pool, feature, boxes[rows], scale))
    return found


def _pooled(pool: Any, feature: torch.Tensor, boxes: torch.Tensor, scale: float) -> torch.Tensor:
    from torchvision.ops import roi_align

    regions: torch.Tensor = roi_align(feature.float(), boxes, pool.output_size, scale, pool.sampling_ratio)
    return regions.to(feature.dtype)


def _levels(pool: Any, boxes: torch.Tensor, scales: Sequence[float]) -> torch.Tensor:
    """The pyramid paper's equation 1, as torchvision computes it."""
    import torch

    side = torch.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    low, high = (-math.log2(scales[end]) for end in (0, -1))
    levels = torch.floor(pool.canonical_level + torch.log2(side / pool.canonical_scale) + 1e-6)
    return levels.clamp(low, high) - low


def _candidates(
    coder: Any,
    logits: torch.Tensor,
    codes: torch.Tensor,
    proposals: torch.Tensor,
    are_real: torch.Tensor,
    extent: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    import torch

    count, each = proposals.shape[:2]
    kinds = logits.shape[-1]
    scores = logits.float().softmax(-1).reshape(count, each, kinds)
    moves = codes.float().reshape(count, each, kinds, 4)
    boxes = _clipped(decoded(coder, moves, proposals.float().unsqueeze(2)), extent.float())
    counted = _are_larger(boxes, SMALLEST) & are_real.unsqueeze(-1)
    scores = torch.where(counted, scores, torch.zeros_like(scores))[:, :, 1:].flatten(1)
    values, places = best(scores, CANDIDATES)
    found = places % (kinds - 1) + 1
    rows = divided(places, kinds - 1) * kinds + found
    return chosen(boxes.reshape(count, each * kinds, 4), rows), values, found.to(torch.int32)
