"""What segmenters give, whatever form that has: scores, their best classes, and the masks of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from builder.data.recipe.placing import Placement
from builder.errors import VerificationError
from builder.networks.outputs import described

if TYPE_CHECKING:
    import torch

KEYS = ("out", "logits")
MOST_CLASSES = 256
"""That UINT8 counts."""


def whole(result: Any) -> torch.Tensor:
    """Scores [B, C, h, w], or classes [B, h, w], of what a network gives. Raises VerificationError."""
    import torch

    if isinstance(result, Mapping):
        result = next((result[key] for key in KEYS if key in result), result)
    if isinstance(result, tuple | list) and len(result) == 1:
        result = result[0]
    if isinstance(result, torch.Tensor):
        if result.ndim == 4 and result.is_floating_point():
            _require_few(result.shape[1])
            return result.float()
        if result.ndim == 3 and not result.is_floating_point():
            return result
    raise VerificationError(
        "a segmenter gives scores [B, C, H, W], or classes [B, H, W] as whole numbers, by themselves or as "
        f"{' or '.join(map(repr, KEYS))}; this gives {described(result)}"
    )


def _require_few(classes: int) -> None:
    if not 1 <= classes <= MOST_CLASSES:
        raise VerificationError(f"the network has {classes} classes, and masks, which are UINT8, hold {MOST_CLASSES}")


def enlarged(scores: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Scores of each pixel of the network's input, where the network gives fewer, bilinearly."""
    import torch

    if scores.ndim == 3 or tuple(scores.shape[-2:]) == size:
        return scores
    return torch.nn.functional.interpolate(scores, size, mode="bilinear", align_corners=False)


def best(found: torch.Tensor) -> torch.Tensor:
    """uint8 [B, H, W]; of one channel, whether its score is above 0."""
    import torch

    if found.ndim == 3:
        return found.to(torch.uint8)
    chosen = found[:, 0] > 0 if found.shape[1] == 1 else found.argmax(1)
    return chosen.to(torch.uint8)


def margins(scores: torch.Tensor) -> torch.Tensor:
    """float32 [B, H, W]: how far the best class is before the next, over the spread of all scores."""
    spread = scores.std().clamp_min(1e-12)
    if scores.shape[1] == 1:
        return scores[:, 0].abs() / spread
    first, second = scores.topk(2, dim=1).values.unbind(1)
    return (first - second) / spread


def of_picture(mask: torch.Tensor, placement: Placement, network: tuple[int, int]) -> torch.Tensor:
    """uint8 [h, w] of the network -> [H, W] of the picture: of each pixel, the one that its middle lies in."""
    rows = _nearest(placement.picture_height, placement.height, placement.top, mask.shape[0] / network[0])
    columns = _nearest(placement.picture_width, placement.width, placement.left, mask.shape[1] / network[1])
    return mask[rows.clamp(max=mask.shape[0] - 1)][:, columns.clamp(max=mask.shape[1] - 1)]


def _nearest(wanted: int, length: int, start: int, scale: float) -> torch.Tensor:
    import torch

    middles = (torch.arange(wanted, dtype=torch.float64) + 0.5) * length / wanted + start
    return torch.floor(middles * scale + 1e-9).long()
