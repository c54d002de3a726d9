"""Detections in COCO's form, as annotation tools and evaluations read it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from client.batch.rows import Row
from client.shown import json_line
from client.tasks.exchange import Columns
from client.types import Detection


def write_coco(path: Path, rows: Iterable[Row], columns: Columns) -> None:
    """images, annotations with bbox [x, y, width, height] and score, and categories, whose ids are class numbers.

    An image with an error is one of `images` with that key, so that it is not taken for one without objects.
    """
    categories = dict(enumerate(columns.labels))
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, row in enumerate(rows, 1):
        images.append(_image(number, row))
        for detection in row.answer or ():
            categories.setdefault(detection.class_id, detection.label)
            annotations.append({"id": len(annotations) + 1, "image_id": number, **_annotation(detection)})
    kinds = [{"id": number, "name": name} for number, name in sorted(categories.items())]
    with path.open("w", encoding="utf-8") as file:
        file.write(json_line({"images": images, "annotations": annotations, "categories": kinds}) + "\n")


def _annotation(detection: Detection) -> dict[str, Any]:
    x1, y1, x2, y2 = detection.box
    width, height = x2 - x1, y2 - y1
    return {
        "category_id": detection.class_id,
        "bbox": [x1, y1, width, height],
        "area": width * height,
        "score": detection.score,
        "iscrowd": 0,
    }


def _image(number: int, row: Row) -> dict[str, Any]:
    image: dict[str, Any] = {"id": number, "file_name": row.path}
    if row.error:
        return image | {"error": row.error}
    size = _size(row.path)
    return image | {"width": size[0], "height": size[1]} if size else image


def _size(path: str) -> Sequence[int] | None:
    """Of the upright picture, where it is still there and told."""
    from PIL import Image

    with contextlib.suppress(Exception), Image.open(path) as picture:  # decoders raise what they will
        is_turned = picture.getexif().get(0x0112, 1) >= 5
        return picture.size[::-1] if is_turned else picture.size
    return None
