"""Boxes of whole batches, as torchvision decodes those of single images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


def anchors(generator: nn.Module, backbone: nn.Module, size: tuple[int, int]) -> tuple[torch.Tensor, dict[str, Any]]:
    """Those of one image of this size, float32 [N, 4], and the height and width of each of the backbone's features."""
    import torch
    from torchvision.models.detection.image_list import ImageList

    with torch.no_grad():
        image = torch.zeros(1, 3, *size)
        features = by_name(backbone(image))
        (found,) = generator(ImageList(image, [size]), list(features.values()))
    return found, {name: tuple(feature.shape[-2:]) for name, feature in features.items()}


def by_name(features: Any) -> dict[str, torch.Tensor]:
    """A backbone without a pyramid gives one tensor."""
    return dict(features) if isinstance(features, dict) else {"0": features}


def decoded(coder: Any, codes: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """`codes` [..., 4] relative to boxes that are as many, or one for several, as torchvision's BoxCoder has them."""
    import torch

    x, y, wide, high = coder.weights
    width, height = references[..., 2] - references[..., 0], references[..., 3] - references[..., 1]
    middle_x, middle_y = references[..., 0] + 0.5 * width, references[..., 1] + 0.5 * height
    scale_x = torch.exp(torch.clamp(codes[..., 2] / wide, max=coder.bbox_xform_clip))
    scale_y = torch.exp(torch.clamp(codes[..., 3] / high, max=coder.bbox_xform_clip))
    at_x, at_y = codes[..., 0] / x * width + middle_x, codes[..., 1] / y * height + middle_y
    half_x, half_y = 0.5 * (scale_x * width), 0.5 * (scale_y * height)
    return torch.stack((at_x - half_x, at_y - half_y, at_x + half_x, at_y + half_y), dim=-1)


def best(scores: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest of the last axis, and where they are; all, in order, where there are no more."""
    values, places = scores.topk(min(count, scores.shape[-1]), dim=-1)
    return values, places


def chosen(boxes: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """[B, N, 4] and [B, K] -> [B, K, 4]"""
    return boxes.gather(1, places.unsqueeze(-1).expand(-1, -1, 4))


def divided(places: torch.Tensor, by: int) -> torch.Tensor:
    import torch

    return torch.div(places, by, rounding_mode="floor")
