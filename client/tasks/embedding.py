"""Encoded images to vectors: what is alike lies near each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from client.errors import ServerError
from client.tasks import encoded
from client.tasks.exchange import Columns, Exchange
from client.types import Image, Inference, ModelInfo, Output

if TYPE_CHECKING:
    from client.types import Array

PLURAL = "embedding models"
NAME = "embedding"
BY_VERSION = False
EMBEDDING = "EMBEDDING"


@dataclass(frozen=True)
class Request:
    images: Sequence[Image]


def takes(request: Any) -> bool:
    return isinstance(request, Request)


def recognises(info: ModelInfo) -> bool:
    """All of them say what they are."""
    return False


def refusal(info: ModelInfo) -> str:
    return encoded.refusal(info, NAME, (EMBEDDING,), "make vectors of encoded images")


def check(info: ModelInfo, request: Request) -> None:
    """Whatever is in the images."""


def files(request: Request) -> Sequence[Image]:
    return request.images


def encode(info: ModelInfo, request: Request, contents: Sequence[bytes]) -> Sequence[Inference]:
    tensor = encoded.tensor(info, contents, "make vectors of")
    return [Inference(info.name, (tensor,), (Output(EMBEDDING),))]


def decode(info: ModelInfo, request: Request, exchanges: Sequence[Exchange]) -> list[Array]:
    """float32 [D] for each image."""
    (exchange,) = exchanges
    return vectors(info, exchange, len(request.images), "images")


def vectors(info: ModelInfo, exchange: Exchange, count: int, things: str) -> list[Array]:
    """float32 [D] for each of the things that were sent. Raises ServerError."""
    import numpy as np

    found = exchange.answer[EMBEDDING]
    if found is None:
        raise ServerError(f"{info.name} did not give {EMBEDDING}")
    if len(found) != count or not found.size:
        raise ServerError(f"{info.name} gave {EMBEDDING} {list(found.shape)} for {count} {things}")
    rows = found.reshape(len(found), -1)
    if not np.isfinite(rows).all():
        raise ServerError(f"{info.name} gave a vector with numbers that are not finite")
    return list(rows)


def columns(info: ModelInfo, request: Request) -> Columns:
    return vector_columns(info, {"task": NAME})


def vector_columns(info: ModelInfo, settings: Mapping[str, Any], of_texts: bool = False) -> Columns:
    size = next((given.shape[-1] for given in info.outputs if given.name == EMBEDDING), 0)
    names = tuple(f"v{n}" for n in range(1, size + 1))
    return Columns(names, _rows, _record, settings, _answer, _fields, of_texts=of_texts)


def _rows(vector: Array) -> list[list[object]]:
    return [vector.tolist()]


def _record(vector: Array) -> dict[str, Any]:
    return {"vector": vector.tolist()}


def _answer(record: Mapping[str, Any]) -> Array:
    import numpy as np

    return np.asarray(record["vector"], np.float32)


def _fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    return [("vector", pa.list_(pa.float32()))]
