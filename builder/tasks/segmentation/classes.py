"""What segmentation networks give, made classes of the pixels of their input: by PyTorch alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from builder.errors import NetworkError

if TYPE_CHECKING:
    import torch

MOST_CLASSES = 256
TIE = 1e-4
"""Two logits as near as this, of the largest where that is above 1, are a tie to arithmetic in another order."""
RESULTS = ("out", "logits")
FORMS = "give logits [B, C, h, w], by themselves or as `out` or `logits` of a dict, or whole numbers [B, h, w]"


def of_result(result: Any) -> torch.Tensor:
    """[B, C, h, w] of logits, or [B, h, w] of whole numbers. Raises NetworkError."""
    found = result
    if isinstance(result, Mapping):
        found = next((result[key] for key in RESULTS if key in result), None)
        if found is None:
            raise NetworkError(f"the network gives a dict of {', '.join(map(str, result))}; {FORMS}")
    if not hasattr(found, "is_floating_point"):
        raise NetworkError(f"the network gives a {type(found).__name__}; {FORMS}")
    if (found.ndim, found.is_floating_point()) not in ((4, True), (3, False)):
        kind = str(found.dtype).removeprefix("torch.")
        raise NetworkError(f"the network gives {kind} {list(found.shape)}; {FORMS}")
    if found.ndim == 4 and found.shape[1] > MOST_CLASSES:
        raise NetworkError(f"the network has {found.shape[1]} classes, and masks are of UINT8: at most {MOST_CLASSES}")
    return found  # type: ignore[no-any-return]


def led_to(size: tuple[int, int], found: torch.Tensor) -> torch.Tensor:
    """The same at the size of the network's input: logits bilinearly, numbers as they are nearest."""
    from torch.nn.functional import interpolate

    if found.shape[-2:] == size:
        return found.float() if found.is_floating_point() else found
    if found.is_floating_point():
        return interpolate(found.float(), size, mode="bilinear", align_corners=False)
    return interpolate(found[:, None].float(), size, mode="nearest-exact")[:, 0].to(found.dtype)


def chosen(found: torch.Tensor) -> torch.Tensor:
    """uint8 [B, H, W]. One channel tells of one class beside the background: sigmoid > 0.5 is logit > 0."""
    import torch

    if found.ndim == 3:
        return found.to(torch.uint8)
    return (found[:, 0] > 0 if found.shape[1] == 1 else found.argmax(1)).to(torch.uint8)


def undecided(found: torch.Tensor) -> torch.Tensor:
    """bool [B, H, W]: of which pixels the class is a matter of rounding."""
    import torch

    if found.ndim == 3:
        return torch.zeros(found.shape, dtype=torch.bool)
    tie = TIE * max(1.0, found.abs().max().item())
    if found.shape[1] == 1:
        return found[:, 0].abs() <= tie
    first, second = found.topk(2, dim=1).values.unbind(1)
    return first - second <= tie


def in_head(size: tuple[int, int]) -> Callable[[Any], tuple[torch.Tensor, ...]]:
    """What stands behind the network in what is exported: UINT8 [B, H, W]."""

    def masks(result: Any) -> tuple[torch.Tensor, ...]:
        return (chosen(led_to(size, of_result(result))),)

    return masks


def as_given(result: Any) -> tuple[torch.Tensor, ...]:
    """Of the user's own file, whose answer the step makes classes of."""
    return (of_result(result),)


def spread(mask: torch.Tensor, placement: tuple[int, ...]) -> torch.Tensor:
    """A mask [H, W] of the network's input at the picture's size: of each pixel what its centre lies in."""
    import torch

    high, wide, top, left, height, width = placement
    part = mask[top : top + height, left : left + width]

    def nearest(wanted: int, length: int) -> torch.Tensor:
        # In float64, since `interpolate` rounds centres on the border of two pixels to either side.
        return ((torch.arange(wanted, dtype=torch.float64) + 0.5) * length / wanted).floor().long()

    return part.index_select(0, nearest(high, height)).index_select(1, nearest(wide, width))
