"""One picture to one model of whichever task: what is sent, and what comes back as the routes give it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from client import drawn
from client.aio import AsyncClient
from client.errors import ServerError
from client.tasks import detection, segmentation
from client.tasks.classification import as_dict
from client.types import ModelInfo, Segmentation

CLASSIFICATION, DETECTION, SEGMENTATION, EMBEDDING = "classification", "detection", "segmentation", "embedding"
PLURALS = {
    CLASSIFICATION: "image classifiers",
    DETECTION: "detectors",
    SEGMENTATION: "segmenters",
    EMBEDDING: "embedding models",
}


@dataclass(frozen=True)
class Query:
    """What callers may say beside the picture."""

    top: int | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Mask:
    """A palette PNG whose indices are classes, and what is in it."""

    png: bytes
    width: int
    height: int
    classes: list[dict[str, Any]]


def asked(client: AsyncClient, info: ModelInfo, image: bytes, query: Query) -> Awaitable[Any]:
    """A model that does not say its task is a classifier. Raises ClientError."""
    return ASKED[info.task or CLASSIFICATION](client, info, image, query)


async def _classified(client: AsyncClient, info: ModelInfo, image: bytes, query: Query) -> list[dict[str, Any]]:
    return list(map(as_dict, await client.classify(image, info.name, query.top, query.threshold)))


async def _detected(client: AsyncClient, info: ModelInfo, image: bytes, query: Query) -> list[dict[str, Any]]:
    found = await client.detect(image, info.name, query.threshold)
    if not all(math.isfinite(number) for one in found for number in (*one.box, one.score)):
        raise ServerError(f"{info.name} gave boxes or scores that are no finite numbers")  # JSON has no words for them
    return list(map(detection.as_dict, found))


async def _segmented(client: AsyncClient, info: ModelInfo, image: bytes, _: Query) -> Mask:
    found = await client.segment(image, info.name)
    return await asyncio.to_thread(_mask, found)  # large ones take a while


async def _embedded(client: AsyncClient, info: ModelInfo, image: bytes, _: Query) -> list[float]:
    numbers: list[float] = (await client.embed(image, info.name)).tolist()
    return numbers


ASKED: dict[str, Callable[[AsyncClient, ModelInfo, bytes, Query], Awaitable[Any]]] = {
    CLASSIFICATION: _classified,
    DETECTION: _detected,
    SEGMENTATION: _segmented,
    EMBEDDING: _embedded,
}


def _mask(found: Segmentation) -> Mask:
    height, width = found.mask.shape
    classes = [{**one, "color": _colour(one["class"])} for one in segmentation.pixels(found)]
    return Mask(drawn.mask(found), width, height, classes)


def _colour(number: int) -> str:
    """In the PNG's palette, where 0 is black."""
    return "#" + bytes(drawn.colour(number) if number else (0, 0, 0)).hex()
