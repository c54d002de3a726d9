"""Detectors that ask queries, each of which answers with a box and scores, and whose answers are not suppressed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.networks.detectors.boxes import chosen

if TYPE_CHECKING:
    import torch
    from torch import nn

    from builder.data.recipe.placing import Placement

Ranked = Callable[["torch.Tensor"], "tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]"]
"""Logits [B, Q, C] to scores, classes and queries [B, K]; None: K are the queries themselves."""
Own = Callable[["torch.Tensor", "torch.Tensor", "tuple[int, int]"], "dict[str, torch.Tensor]"]
"""Logits [1, Q, C], boxes [1, Q, 4] and a picture's height and width to its boxes, scores and labels."""
TOLD = "queries"
"""Attribute of a module that is one: what is known of it."""
NEVER = 1.0
"""No two boxes overlap more, so that none is left out."""


@dataclass(frozen=True)
class Queries:
    """What is known of a module that takes pixels float32 [B, 3, H, W], and, if it takes a mask, which of them are
    the picture's, int64 [B, H, W]. It gives logits [B, Q, C] and boxes [B, Q, 4]: middle and size, as shares of the
    picture.
    """

    ranked: Ranked
    own: Own
    takes_mask: bool
    classes: int
    score_threshold: float


def of(module: Any) -> Queries | None:
    found = getattr(module, TOLD, None)
    return found if isinstance(found, Queries) else None


def served(network: nn.Module, told: Queries, takes_placement: bool) -> nn.Module:
    """The network for pixels alone, or for pixels and a placement, int32 [B, 6], which says what of the input is the
    picture; it then gives the placement, too.
    """
    import torch
    from torch import nn

    if not told.takes_mask:
        return network

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            given: tuple[torch.Tensor, ...] = self.network(pixels, torch.ones_like(pixels[:, 0], dtype=torch.int64))
            return given

    class Placed(Whole):
        def forward(  # type: ignore[override]
            self, pixels: torch.Tensor, placement: torch.Tensor
        ) -> tuple[torch.Tensor, ...]:
            return (*self.network(pixels, mask_of(pixels, placement)), placement)

    return (Placed() if takes_placement else Whole()).eval()


def found(network: nn.Module, told: Queries, pixels: torch.Tensor, place: Placement) -> dict[str, torch.Tensor]:
    """What the network's own post-processing finds in one picture, float32 [1, 3, H, W]: boxes in its own pixels."""
    import torch

    placement = torch.tensor([place], dtype=torch.int32)
    logits, boxes = network(pixels, mask_of(pixels, placement)) if told.takes_mask else network(pixels)
    is_whole = told.takes_mask or tuple(pixels.shape[2:]) == (place.height, place.width)
    if is_whole:
        return told.own(logits, boxes, (place.picture_height, place.picture_width))
    given = told.own(logits, boxes, (pixels.shape[2], pixels.shape[3]))
    scale = torch.tensor([place.picture_width / place.width, place.picture_height / place.height] * 2)
    return given | {"boxes": (given["boxes"] - torch.tensor([place.left, place.top] * 2)) * scale}


def mask_of(pixels: torch.Tensor, placement: torch.Tensor) -> torch.Tensor:
    """int64 [B, H, W]: 1 where the picture lies."""
    import torch

    rows = torch.arange(pixels.shape[2], device=pixels.device)[None, :, None]
    columns = torch.arange(pixels.shape[3], device=pixels.device)[None, None, :]
    top, left, high, wide = (placement[:, number, None, None] for number in range(2, 6))
    inside = (rows >= top) & (rows < top + high) & (columns >= left) & (columns < left + wide)
    return inside.to(torch.int64)


def candidates(told: Queries, size: tuple[int, int]) -> Callable[[Any], tuple[torch.Tensor, ...]]:
    """What makes boxes float32 [B, K, 4] in the input's pixels, scores [B, K] and classes int32 [B, K] of an answer."""

    def made(given: Any) -> tuple[torch.Tensor, ...]:
        import torch

        logits, shares, *placed = given
        scores, kinds, queries = told.ranked(logits.float())
        boxes = shares.float() if queries is None else chosen(shares.float(), queries)
        middle, extent = boxes[..., :2], boxes[..., 2:]
        corners = torch.cat((middle - 0.5 * extent, middle + 0.5 * extent), dim=-1)
        return _in_input(corners, size, placed), scores, kinds.to(torch.int32)

    return made


def _in_input(corners: torch.Tensor, size: tuple[int, int], placed: list[torch.Tensor]) -> torch.Tensor:
    """Shares as pixels: of the part that is the picture, where the network was told of one, or of the whole input."""
    import torch

    if not placed:
        return corners * torch.tensor([size[1], size[0]] * 2, dtype=torch.float32, device=corners.device)
    top, left, high, wide = (placed[0][:, number].float() for number in range(2, 6))
    scale, corner = torch.stack((wide, high, wide, high), dim=-1), torch.stack((left, top, left, top), dim=-1)
    return corners * scale[:, None] + corner[:, None]
