"""Encoded images to a class for each pixel."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from client.errors import ServerError
from client.tasks import encoded
from client.tasks.exchange import Columns, Exchange
from client.types import Image, Inference, ModelInfo, Output, Segmentation

if TYPE_CHECKING:
    from client.types import Array

PLURAL = "segmenters"
NAME = "segmentation"
BY_VERSION = True
MASK = "MASK"


@dataclass(frozen=True)
class Request:
    images: Sequence[Image]


def takes(request: Any) -> bool:
    return isinstance(request, Request)


def recognises(info: ModelInfo) -> bool:
    """All segmenters say what they are."""
    return False


def refusal(info: ModelInfo) -> str:
    return encoded.refusal(info, NAME, (MASK,), "give each pixel a class")


def check(info: ModelInfo, request: Request) -> None:
    """There is nothing to ask for beside."""


def files(request: Request) -> Sequence[Image]:
    return request.images


def encode(info: ModelInfo, request: Request, contents: Sequence[bytes]) -> Sequence[Inference]:
    """Masks of the pictures' own sizes are no rows of one tensor: each picture is a request then."""
    size = info.batch(max(1, len(contents)))
    parts = [contents[start : start + size] for start in range(0, len(contents), size)] or [contents]
    return [Inference(info.name, (encoded.tensor(info, part, "segment"),), (Output(MASK),)) for part in parts]


def decode(info: ModelInfo, request: Request, exchanges: Sequence[Exchange]) -> list[Segmentation]:
    return [
        Segmentation(mask, encoded.labels(exchange.told or info))
        for exchange in exchanges
        for mask in _masks(info, exchange)
    ]


def columns(info: ModelInfo, request: Request) -> Columns:
    return Columns(("class", "label", "pixels"), _rows, record, {"task": NAME})


def pixels(segmentation: Segmentation) -> list[dict[str, Any]]:
    """How many pixels each class has that there is."""
    import numpy as np

    numbers, counts = np.unique(segmentation.mask, return_counts=True)
    return [
        {"class": number, "label": encoded.label(segmentation.labels, number), "pixels": count}
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
    ]


def _masks(info: ModelInfo, exchange: Exchange) -> list[Array]:
    answer = exchange.answer[MASK]
    if answer is None:
        raise ServerError(f"{info.name} did not give {MASK}")
    if answer.dtype == object:
        return [_unpacked(info, data) for data in answer.reshape(-1)]
    return list(answer if info.max_batch_size else answer[None])


def _unpacked(info: ModelInfo, data: bytes) -> Array:
    """Of a PNG whose palette's numbers are the classes."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            return np.asarray(picture, np.uint8)
    except (OSError, ValueError) as error:
        raise ServerError(f"{info.name} gave a mask that is no PNG: {error}") from None


def _rows(segmentation: Segmentation) -> list[list[object]]:
    return [list(one.values()) for one in pixels(segmentation)]


def record(segmentation: Segmentation) -> dict[str, Any]:
    height, width = segmentation.mask.shape
    return {"width": width, "height": height, "classes": pixels(segmentation)}
