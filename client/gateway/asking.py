"""One picture to one model of whichever task: what is sent, and what comes back as the routes give it."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from client.aio import AsyncClient
from client.errors import InvalidInput, ServerError
from client.tasks.classification import as_dict
from client.types import ModelInfo

if TYPE_CHECKING:
    from client.types import Array

CLASSIFICATION, DETECTION, SEGMENTATION, EMBEDDING = "classification", "detection", "segmentation", "embedding"
PLURALS = {
    CLASSIFICATION: "image classifiers",
    DETECTION: "detectors",
    SEGMENTATION: "segmenters",
    EMBEDDING: "embedding models",
}
LABELS = "labels"


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
    least = query.threshold
    if least is not None and not 0 <= least <= 1:
        raise InvalidInput(f"the threshold must be from 0 to 1, not {least:g}")
    answer = await _inferred(client, info, image)
    try:
        found = _detections(info, answer)
    except ValueError as error:
        raise ServerError(f"{info.name} gave detections that do not fit together: {error}") from None
    return [one for one in found if least is None or one["score"] >= least]


def _detections(info: ModelInfo, answer: Mapping[str, Array]) -> list[dict[str, Any]]:
    boxes, scores, classes, count = (_given(info, answer, name) for name in ("BOXES", "SCORES", "CLASSES", "COUNT"))
    labels, number = labels_of(info), int(count.reshape(-1)[0])  # beyond that the rows are padding
    rows = zip(boxes.reshape(-1, 4), classes.reshape(-1).tolist(), scores.reshape(-1).tolist(), strict=True)
    return [
        {"box": box.tolist(), "label": label_of(labels, one), "class": one, "score": score}
        for box, one, score in itertools.islice(rows, max(0, number))
    ]


async def _segmented(client: AsyncClient, info: ModelInfo, image: bytes, _: Query) -> Mask:
    mask = _given(info, await _inferred(client, info, image), "MASK")
    try:
        return await asyncio.to_thread(_mask, mask, labels_of(info))  # large ones take a while
    except (OSError, ValueError) as error:
        raise ServerError(f"{info.name} gave a MASK that is none: {error}") from None


async def _embedded(client: AsyncClient, info: ModelInfo, image: bytes, _: Query) -> list[float]:
    found: list[float] = _given(info, await _inferred(client, info, image), "EMBEDDING").reshape(-1).tolist()
    return found


ASKED: dict[str, Callable[[AsyncClient, ModelInfo, bytes, Query], Awaitable[Any]]] = {
    CLASSIFICATION: _classified,
    DETECTION: _detected,
    SEGMENTATION: _segmented,
    EMBEDDING: _embedded,
}


async def _inferred(client: AsyncClient, info: ModelInfo, image: bytes) -> Mapping[str, Array]:
    import numpy as np

    wanted = info.inputs[0]
    data = np.array([image], np.object_).reshape([1] * len(wanted.shape))
    return await client.infer(info.name, {wanted.name: data})


def _given(info: ModelInfo, answer: Mapping[str, Array], name: str) -> Array:
    """Raises ServerError, for numbers too that JSON has no words for."""
    import numpy as np

    if name not in answer or not answer[name].size:
        raise ServerError(f"{info.name} did not give {name}")
    if answer[name].dtype.kind == "f" and not np.isfinite(answer[name]).all():
        raise ServerError(f"{info.name} gave {name} that are no finite numbers")
    return answer[name]


def labels_of(info: ModelInfo) -> list[str]:
    """By class; none where the model does not tell them."""
    try:
        found = json.loads(info.parameters.get(LABELS, "[]"))
    except ValueError:
        return []
    return list(map(str, found)) if isinstance(found, list) else []


def label_of(labels: list[str], number: int) -> str:
    return labels[number] if 0 <= number < len(labels) else str(number)


def _mask(given: Array, labels: list[str]) -> Mask:
    import numpy as np
    from PIL import Image

    if given.dtype == np.object_:  # the model gives a PNG, and with it its palette
        png = given.reshape(-1)[0]
        image: Image.Image = Image.open(io.BytesIO(png), formats=["PNG"])
    else:
        image = Image.fromarray(np.ascontiguousarray(given.reshape(given.shape[-2:])))
        image.putpalette(palette())
        png = _encoded(image)
    if image.mode != "P":
        raise ValueError(f"a PNG of mode {image.mode}, which has no palette")
    counts = np.bincount(np.asarray(image).reshape(-1), minlength=256)
    return Mask(png, image.width, image.height, _classes(counts, labels, image.getpalette() or []))


def _classes(counts: Array, labels: list[str], colours: list[int]) -> list[dict[str, Any]]:
    """Those that some pixel has, by number."""
    return [
        {
            "class": number,
            "label": label_of(labels, number),
            "pixels": int(counts[number]),
            "color": "#" + bytes([*colours[3 * number : 3 * number + 3], 0, 0, 0][:3]).hex(),
        }
        for number in counts.nonzero()[0].tolist()
    ]


def _encoded(image: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def palette() -> bytes:
    """256 colours that differ, neighbours clearly, with black for 0: a number's bits, by threes, from the top down."""
    return bytes(
        sum(((number >> (3 * place + channel)) & 1) << (7 - place) for place in range(3))
        for number in range(256)
        for channel in range(3)
    )
