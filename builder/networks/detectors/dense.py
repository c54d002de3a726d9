"""RetinaNet and FCOS: a pyramid of features, with a sigmoid for each class, and the best candidates of each level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from builder.networks.detectors.boxes import anchors, best, by_name, chosen, decoded, divided

if TYPE_CHECKING:
    import torch
    from torch import nn

TAKES_PLACEMENT = False


def thresholds(module: nn.Module) -> Any:
    return module


def classes(module: Any) -> int:
    return int(module.head.classification_head.num_classes)


def taken_apart(module: Any, size: tuple[int, int]) -> tuple[nn.Module, Callable[[Any], tuple[torch.Tensor, ...]]]:
    import torch
    from torch import nn

    references, shapes = anchors(module.anchor_generator, module.backbone, size)
    per_place = module.anchor_generator.num_anchors_per_location()[0]
    counts = [high * wide * per_place for high, wide in shapes.values()]
    of_levels = torch.split(references, counts)
    keys = ("cls_logits", "bbox_regression", "bbox_ctrness")

    class Raw(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = module.backbone, module.head

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            given = self.head(list(by_name(self.backbone(pixels)).values()))
            return tuple(given[key] for key in keys if key in given)

    def candidates(given: Any) -> tuple[torch.Tensor, ...]:
        logits, codes, *centred = (tensor.float() for tensor in given)
        scores = logits.sigmoid()
        if centred:
            scores = torch.sqrt(scores * centred[0].sigmoid())
        levels = [
            _of_level(module, *parts)
            for parts in zip(torch.split(scores, counts, 1), torch.split(codes, counts, 1), of_levels, strict=True)
        ]
        boxes, values, kinds = (torch.cat(parts, dim=1) for parts in zip(*levels, strict=True))
        return boxes, values, kinds.to(torch.int32)

    return Raw().eval(), candidates


def _of_level(
    module: Any, scores: torch.Tensor, codes: torch.Tensor, references: torch.Tensor
) -> Sequence[torch.Tensor]:
    """The best of a level: boxes [B, K, 4], scores and classes [B, K]."""
    kinds = scores.shape[-1]
    values, places = best(scores.flatten(1), module.topk_candidates)
    rows = divided(places, kinds)
    return _boxes(module.box_coder, chosen(codes, rows), references[rows]), values, places % kinds


def _boxes(coder: Any, codes: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """FCOS has the distances of the four sides from the middle of its anchors."""
    import torch

    if hasattr(coder, "weights"):
        return decoded(coder, codes, references)
    x, y = (0.5 * (references[..., side] + references[..., side + 2]) for side in (0, 1))
    if coder.normalize_by_size:
        width, height = (references[..., side + 2] - references[..., side] for side in (0, 1))
        codes = codes * torch.stack((width, height, width, height), dim=-1)
    left, top, right, bottom = codes.unbind(-1)
    return torch.stack((x - left, y - top, x + right, y + bottom), dim=-1)
