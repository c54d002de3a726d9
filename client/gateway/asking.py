"""One picture, or texts, to one model of whichever task: what is sent, and what comes back as the routes give it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from client import drawn, tasks
from client.aio import AsyncClient
from client.errors import ServerError
from client.images import gray_picture
from client.tasks import TASKS, detection, segmentation
from client.tasks.classification import as_dict
from client.types import ModelInfo, Segmentation

CLASSIFICATION, DETECTION, SEGMENTATION, EMBEDDING = "classification", "detection", "segmentation", "embedding"
TEXT_CLASSES, TEXT_VECTORS = "text-classes", "text-vectors"
ROUTES = {
    CLASSIFICATION: "/classify",
    DETECTION: "/detect",
    SEGMENTATION: "/segment",
    EMBEDDING: "/embed",
    TEXT_CLASSES: "/classify",
    TEXT_VECTORS: "/embed",
}
"""Of the kinds of models that are asked here."""
PROBE = "Is anybody there?"
Given = bytes | str | list[str]


def plural(kind: str) -> str:
    return TASKS[kind].PLURAL


def kind_of(info: ModelInfo) -> str:
    """A model that does not say its task is asked as a classifier, which an operator may have chosen."""
    return next((kind for kind in ROUTES if tasks.is_for(kind, info)), info.task or CLASSIFICATION)


def probe(kind: str) -> Given:
    """What any such model answers."""
    return PROBE if kind in (TEXT_CLASSES, TEXT_VECTORS) else gray_picture()


@dataclass(frozen=True)
class Query:
    """What callers may say beside the picture or the texts."""

    top: int | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Mask:
    """A palette PNG whose indices are classes, and what is in it."""

    png: bytes
    width: int
    height: int
    classes: list[dict[str, Any]]


def asked(client: AsyncClient, info: ModelInfo, kind: str, given: Given, query: Query) -> Awaitable[Any]:
    """What the model says of an image or a text; of a list of texts, a list. Raises ClientError, and KeyError where
    there is no route for such models.
    """
    return ASKED[kind](client, info, given, query)


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


async def _texts_classified(client: AsyncClient, info: ModelInfo, given: str | list[str], query: Query) -> Any:
    texts = [given] if isinstance(given, str) else given
    found = [list(map(as_dict, one)) for one in await client.classify(texts, info.name, query.top, query.threshold)]
    return found[0] if isinstance(given, str) else found


async def _texts_embedded(client: AsyncClient, info: ModelInfo, given: str | list[str], _: Query) -> Any:
    texts = [given] if isinstance(given, str) else given
    found = [vector.tolist() for vector in await client.embed(texts, info.name)]
    return found[0] if isinstance(given, str) else found


ASKED: dict[str, Callable[[AsyncClient, ModelInfo, Any, Query], Awaitable[Any]]] = {
    CLASSIFICATION: _classified,
    DETECTION: _detected,
    SEGMENTATION: _segmented,
    EMBEDDING: _embedded,
    TEXT_CLASSES: _texts_classified,
    TEXT_VECTORS: _texts_embedded,
}


def _mask(found: Segmentation) -> Mask:
    height, width = found.mask.shape
    classes = [{**one, "color": _colour(one["class"])} for one in segmentation.pixels(found)]
    return Mask(drawn.mask(found), width, height, classes)


def _colour(number: int) -> str:
    """In the PNG's palette, where 0 is black."""
    return "#" + bytes(drawn.colour(number) if number else (0, 0, 0)).hex()
