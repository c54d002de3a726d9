"""A small network for each task, which brings its weights along."""

import torch
from torch import nn


def vectors(seed: int = 0) -> nn.Module:
    """[B, 3, 64, 64] -> [B, 32]"""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 32)
    )


def masks(seed: int = 0) -> nn.Module:
    """[B, 3, 64, 64] -> logits [B, 3, 16, 16]"""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 16, 5, stride=4, padding=2), nn.ReLU(), nn.Conv2d(16, 3, 1))


class Boxes(nn.Module):
    """[B, 3, 64, 64] -> [B, 4 + 3, 64]: a box around the middle of each cell, and its scores."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Conv2d(3, 3, 8, stride=8)
        at = torch.arange(4, 64, 8, dtype=torch.float32)
        centres = torch.stack(torch.meshgrid(at, at, indexing="xy")).flatten(1)
        self.register_buffer("boxes", torch.cat((centres, torch.full_like(centres, 14))), False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = (4 * self.scores(x)).flatten(2).sigmoid()
        return torch.cat((self.get_buffer("boxes").expand(x.shape[0], 4, 64), scores), 1)


def boxes(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Boxes()


class Texts(nn.Module):
    """Token numbers and their mask, [B, S], -> [B, S, 16]."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(300, 16), nn.Linear(16, 16)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        mask = attention_mask.unsqueeze(-1).float()
        words = self.words(input_ids) * mask
        return self.out(words + words.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp_min(1))


def texts(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Texts()


def two_stage() -> nn.Module:
    """torchvision's Faster R-CNN around two convolutions."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.ops import MultiScaleRoIAlign

    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 16, 8, stride=8), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
    backbone.out_channels = 16
    return FasterRCNN(
        backbone,
        num_classes=4,
        min_size=64,
        max_size=64,
        rpn_anchor_generator=AnchorGenerator(((12, 20, 32),), ((0.5, 1.0, 2.0),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 3, 2),
        rpn_pre_nms_top_n_test=50,
        rpn_post_nms_top_n_test=20,
    )
