"""SSD and SSDlite: anchors of one grid of features each, with a softmax over classes and the background."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from builder.networks.detectors.boxes import anchors, best, by_name, chosen, decoded, divided

if TYPE_CHECKING:
    import torch
    from torch import nn

TAKES_PLACEMENT = False
CANDIDATES = 5000
"""Of all classes together, after torchvision's own number of each."""


def thresholds(module: nn.Module) -> Any:
    return module


def classes(module: Any) -> int:
    return int(module.head.classification_head.num_columns)


def taken_apart(module: Any, size: tuple[int, int]) -> tuple[nn.Module, Callable[[Any], tuple[torch.Tensor, ...]]]:
    import torch
    from torch import nn

    references, _ = anchors(module.anchor_generator, module.backbone, size)

    class Raw(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = module.backbone, module.head

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            given = self.head(list(by_name(self.backbone(pixels)).values()))
            return given["cls_logits"], given["bbox_regression"]

    def candidates(given: Any) -> tuple[torch.Tensor, ...]:
        logits, codes = (tensor.float() for tensor in given)
        boxes = decoded(module.box_coder, codes, references)
        scores = logits.softmax(-1)[:, :, 1:].transpose(1, 2)
        values, places = best(scores, module.topk_candidates)
        of_class = places.shape[-1]
        values, among = best(values.flatten(1), CANDIDATES)
        found = chosen(boxes, places.flatten(1).gather(1, among))
        return found, values, (divided(among, of_class) + 1).to(torch.int32)

    return Raw().eval(), candidates
