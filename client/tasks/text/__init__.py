"""Texts to vectors or to classes: what both share. A model's output says which of the two it gives."""

from __future__ import annotations

from collections.abc import Sequence

from client.tasks import encoded
from client.types import ModelInfo, Tensor, Text

NAME = "text"
"""What the configs of both kinds say."""
VECTORS, CLASSES = "EMBEDDING", "PROBABILITIES"
"""Their outputs."""


def refusal(info: ModelInfo, output: str, does: str) -> str:
    """Why a model is not asked so; empty if it is."""
    return encoded.refusal(info, NAME, (output,), does)


def named(texts: Sequence[str | bytes]) -> list[Text]:
    """As errors call them."""
    return [text if isinstance(text, Text) else Text(text, f"texts[{n}]") for n, text in enumerate(texts)]


def tensors(info: ModelInfo, contents: Sequence[bytes]) -> list[Tensor]:
    """As many as the model's largest batch asks for, none for no texts."""
    most = max(1, info.max_batch_size)
    return [
        encoded.tensor(info, contents[start : start + most], "ask about") for start in range(0, len(contents), most)
    ]
