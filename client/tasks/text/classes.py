"""Texts to classes: one of them (softmax), or several labels at once (sigmoid)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from client.tasks import classification, encoded, text
from client.tasks.classification import USUAL, Choice
from client.tasks.exchange import Columns, Exchange
from client.types import Inference, ModelInfo, Prediction, Text

PLURAL = "text classifiers"
NAME = text.NAME
BY_VERSION = True
"""Where the server itself has no labels, those of the version that answered hold."""


@dataclass(frozen=True)
class Request:
    texts: Sequence[str | bytes]
    """As many as you like: they are sent in the model's largest batches."""
    choice: Choice = USUAL


def making(top: int | None, threshold: float | None) -> Callable[[Sequence[Any]], Request]:
    return lambda texts: Request(texts, Choice(top, threshold))


def takes(request: Any) -> bool:
    return isinstance(request, Request)


def recognises(info: ModelInfo) -> bool:
    """All of them say what they are."""
    return False


def refusal(info: ModelInfo) -> str:
    return text.refusal(info, text.CLASSES, "map texts to classes")


def check(info: ModelInfo, request: Request) -> None:
    classification.check_choice(info, request.choice)


def files(request: Request) -> Sequence[Text]:
    return text.named(request.texts)


def encode(info: ModelInfo, request: Request, contents: Sequence[bytes]) -> Sequence[Inference]:
    output = classification.output(info, request.choice)
    return [Inference(info.name, (tensor,), (output,)) for tensor in text.tensors(info, contents)]


def decode(info: ModelInfo, request: Request, exchanges: Sequence[Exchange]) -> list[tuple[Prediction, ...]]:
    found: list[tuple[Prediction, ...]] = []
    for exchange in exchanges:
        rows = classification.scores(info, exchange, len(exchange.inference.tensors[0].data))
        found += classification.chosen(info, request.choice, rows, encoded.labels(exchange.told or info))
    return found


def columns(info: ModelInfo, request: Request) -> Columns:
    return classification.choice_columns(info, request.choice, {"task": NAME}, of_texts=True)
