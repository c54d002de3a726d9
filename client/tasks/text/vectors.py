"""Texts to vectors: what means the like lies near each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from client.tasks import embedding, text
from client.tasks.exchange import Columns, Exchange
from client.types import Inference, ModelInfo, Output, Text

if TYPE_CHECKING:
    from client.types import Array

PLURAL = "models that make vectors of texts"
NAME = text.NAME
BY_VERSION = False


@dataclass(frozen=True)
class Request:
    texts: Sequence[str | bytes]
    """As many as you like: they are sent in the model's largest batches."""


def takes(request: Any) -> bool:
    return isinstance(request, Request)


def recognises(info: ModelInfo) -> bool:
    """All of them say what they are."""
    return False


def refusal(info: ModelInfo) -> str:
    return text.refusal(info, text.VECTORS, "make vectors of texts")


def check(info: ModelInfo, request: Request) -> None:
    """Whatever the texts say."""


def files(request: Request) -> Sequence[Text]:
    return text.named(request.texts)


def encode(info: ModelInfo, request: Request, contents: Sequence[bytes]) -> Sequence[Inference]:
    return [Inference(info.name, (tensor,), (Output(text.VECTORS),)) for tensor in text.tensors(info, contents)]


def decode(info: ModelInfo, request: Request, exchanges: Sequence[Exchange]) -> list[Array]:
    """float32 [D] for each text."""
    found: list[Array] = []
    for exchange in exchanges:
        found += embedding.vectors(info, exchange, len(exchange.inference.tensors[0].data), "texts")
    return found


def columns(info: ModelInfo, request: Request) -> Columns:
    return embedding.vector_columns(info, {"task": NAME}, of_texts=True)
