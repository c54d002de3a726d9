"""A network of texts, with several inputs and outputs, one of them of whole numbers; and what exports it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from builder.exporters import EXPORTERS
from builder.networks.heads import with_head
from builder.triton.signature import Signature, TensorSpec
from builder.types import ExportRequest, Target

WORDS = 50
ENCODER = Signature(
    (TensorSpec("ids", "INT64", (-1,)), TensorSpec("mask", "INT64", (-1,)), TensorSpec("scale", "FP32", (3,))),
    (TensorSpec("hidden", "FP32", (-1, 8)), TensorSpec("pooled", "FP32", (8,)), TensorSpec("best", "INT64", ())),
)


class Encoder(nn.Module):
    """Gives a dict, one of whose tensors is of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 8)
        self.mix = nn.Linear(8, 8)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        weight = mask.unsqueeze(-1).to(scale.dtype)
        hidden = self.mix(self.embedding(ids)) * weight * scale.sum(1)[:, None, None]
        pooled = hidden.sum(1) / weight.sum(1)
        return {"hidden": hidden, "pooled": pooled, "best": ids.argmax(1) * 1_000_003}


def encoder() -> nn.Module:
    torch.manual_seed(2)
    names = ["hidden", "pooled", "best"]
    return with_head(
        Encoder().eval(), ["INPUT__0", "INPUT__1", "INPUT__2"], lambda result: tuple(map(result.get, names))
    )


def texts(batch: int, length: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(batch * 100 + length)
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[0, length // 2 + 1 :] = 0
    ids = torch.randint(0, WORDS, (batch, length), generator=random)
    return {"ids": ids, "mask": mask, "scale": torch.rand(batch, 3, generator=random)}


def export(
    folder: Path,
    variant: tuple[str, str],
    module: nn.Module,
    signature: Signature,
    examples: Mapping[str, torch.Tensor],
) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / EXPORTERS[variant[0]].FILENAME
    mask, scale = torch.ones(1, 10, dtype=torch.int64), torch.ones(1, 3)
    calibration = [{"ids": words[None], "mask": mask, "scale": scale} for words in torch.arange(WORDS).split(10)]
    EXPORTERS[variant[0]].export(ExportRequest(module, signature, examples, path, Target(variant[1]), calibration))
    return path
