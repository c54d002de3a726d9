"""DETR and those after it: up to candidates, and transformers' own way from there, which these are held to.

They ask a fixed number of queries, each of which answers with a box and scores. Nothing is suppressed behind them: they
learn to find each object once.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from builder.errors import NetworkError
from builder.networks.detectors.boxes import divided
from builder.networks.detectors.queries import TOLD, Queries
from builder.networks.huggingface.loading import Loaded, imported
from builder.networks.huggingface.snapshot import Snapshot

if TYPE_CHECKING:
    import torch
    from torch import nn

SOFTMAX, SIGMOID = "softmax", "sigmoid"
SCORES = {
    "detr": SOFTMAX,
    "table-transformer": SOFTMAX,
    "yolos": SOFTMAX,
    "conditional_detr": SIGMOID,
    "deformable_detr": SIGMOID,
    "rt_detr": SIGMOID,
    "rt_detr_v2": SIGMOID,
    "d_fine": SIGMOID,
}
"""By transformers' `model_type`. softmax: a query is of its best class, or of none, the last. sigmoid: of any."""
PROCESSORS = {
    "detr": "DetrImageProcessorPil",
    "table-transformer": "DetrImageProcessorPil",
    "yolos": "YolosImageProcessorPil",
    "conditional_detr": "ConditionalDetrImageProcessorPil",
    "deformable_detr": "DeformableDetrImageProcessorPil",
    "rt_detr": "RTDetrImageProcessorPil",
    "rt_detr_v2": "RTDetrImageProcessorPil",
    "d_fine": "RTDetrImageProcessorPil",
}
"""Of which the post-processing is."""
MOST = {"conditional_detr": 100, "deformable_detr": 100}
"""Of all pairs of query and class, how many are looked at; of others, as many as there are queries."""
THRESHOLD = 0.5
"""transformers' own."""
MASK = "pixel_mask"
CHECKS = "TRANSFORMERS_DISABLE_TORCH_CHECK"
LEN = "len"
TRANSFORMERS = "transformers.models."


def module(snapshot: Snapshot, loaded: Loaded) -> nn.Module:
    """The network, with what is known of it (see networks/detectors/queries.py). Raises NetworkError for a kind that is
    not known.
    """
    kind = str(loaded.config.model_type)
    if kind not in SCORES:
        raise NetworkError(
            f"{snapshot.name} is a detector of the kind {kind}, and known are {', '.join(SCORES)}. A callable of "
            "your own can make it, with `output:` to tell what it gives: `network: path/file.py:callable`"
        )
    takes_mask = MASK in inspect.signature(loaded.module.forward).parameters and kind in MASKED
    raw = _network(loaded.module, takes_mask)
    ranked = _best_class if SCORES[kind] == SOFTMAX else _best_pairs(MOST.get(kind))
    told = Queries(ranked, _own(kind), takes_mask, int(loaded.config.num_labels), THRESHOLD)
    setattr(raw, TOLD, told)
    return raw


MASKED = ("detr", "table-transformer", "conditional_detr", "deformable_detr")
"""Those that look at what they are told of padding; the others take the argument, and no notice of it."""


def _network(network: nn.Module, takes_mask: bool) -> nn.Module:
    """Pixels float32 [B, 3, H, W], and which of them are the picture's, int64 [B, H, W], to logits [B, Q, C] and boxes
    [B, Q, 4]: middle and size, as shares of the picture.
    """
    from torch import nn

    class Raw(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            with _traceable(self.network):
                given = self.network(pixel_values=pixels)
            return given["logits"], given["pred_boxes"]

    class Masked(Raw):
        def forward(  # type: ignore[override]
            self, pixels: torch.Tensor, mask: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            with _traceable(self.network):
                given = self.network(pixel_values=pixels, pixel_mask=mask)
            return given["logits"], given["pred_boxes"]

    return Masked().eval() if takes_mask else Raw().eval()


@contextmanager
def _traceable(network: nn.Module) -> Iterator[None]:
    """While it runs, what transformers does that no trace can follow is done otherwise."""
    with _unchecked(), _counted(network):
        yield


@contextmanager
def _counted(network: nn.Module) -> Iterator[None]:
    """`len(tensor)` is a constant of every trace, so that an artifact would take one size of batch. In the network's
    own files it is the tensor's first side meanwhile.
    """
    names = {type(part).__module__ for part in network.modules()}
    files = [sys.modules[name] for name in names if name in sys.modules and name.startswith(TRANSFORMERS)]
    spaces = [vars(file) for file in files if LEN not in vars(file)]
    for space in spaces:
        space[LEN] = _first_side
    try:
        yield
    finally:
        for space in spaces:
            del space[LEN]


def _first_side(value: Any) -> Any:
    import torch

    return value.shape[0] if isinstance(value, torch.Tensor) else len(value)


@contextmanager
def _unchecked() -> Iterator[None]:
    """Without transformers' checks of its own shapes, which are made of tensors: no trace can follow them."""
    before = os.environ.get(CHECKS)
    os.environ[CHECKS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[CHECKS]
        else:
            os.environ[CHECKS] = before


def _best_class(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Scores and classes [B, Q] of every query: of no object, which is the last, there is none."""
    scores, kinds = logits.softmax(-1)[..., :-1].max(-1)
    return scores, kinds, None


def _best_pairs(most: int | None) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    def best(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Scores, classes and queries [B, K] of the best pairs of both."""
        queries, kinds = logits.shape[1], logits.shape[2]
        scores, places = logits.sigmoid().flatten(1).topk(min(most or queries, queries * kinds), dim=-1)
        return scores, places % kinds, divided(places, kinds)

    return best


def _own(kind: str) -> Callable[[torch.Tensor, torch.Tensor, tuple[int, int]], dict[str, torch.Tensor]]:
    """transformers' own post-processing: logits and boxes of one picture, and its height and width, to all it finds."""

    def run(logits: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> dict[str, torch.Tensor]:
        from types import SimpleNamespace

        processor: Any = getattr(imported(), PROCESSORS[kind])()
        given = SimpleNamespace(logits=logits, pred_boxes=boxes)
        (found,) = processor.post_process_object_detection(given, threshold=0.0, target_sizes=[size])
        return dict(found)

    return run
