"""What is in the evaluation pictures, as COCO's JSON has it, and mean average precision with it."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from builder.data.images import Evaluation
from builder.errors import ManifestError
from builder.tasks.detection.found import Found
from builder.tasks.detection.spec import AnnotatedSet

SLACK = 1.0
"""Pixels that a box may reach beyond its picture."""


class Truth(NamedTuple):
    box: Sequence[float]
    """x, y, width, height in pixels."""
    kind: int
    """The network's class."""
    is_crowd: bool
    """Of many objects together: what is found within is neither right nor wrong."""


@dataclass(frozen=True)
class Annotations:
    boxes: Mapping[int, Sequence[Truth]]
    """By number of an evaluation picture."""


def read(images: AnnotatedSet, evaluation: Evaluation, base: Path, labels: Sequence[str] | None) -> Annotations:
    """Of the pictures that are not turned. Raises ManifestError."""
    data, file = (base / Path(value).expanduser() for value in (images.data, images.annotations or ""))
    if not data.is_dir():
        raise ManifestError(f"annotations are found by the names of pictures in a folder, and {images.data} is none")
    document = _document(file)
    numbers = {
        str(Path(view.file.name).relative_to(data)): number
        for number, view in enumerate(evaluation.views)
        if not view.turn
    }
    try:
        return Annotations(_boxes(document, numbers, _classes(document["categories"], labels), file))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ManifestError(f"{file} is no COCO annotation of boxes: {error!r}") from None


def _document(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(f"the annotations cannot be read: {file}: {error}") from None


def _classes(categories: Any, labels: Sequence[str] | None) -> dict[Any, int]:
    """By a category's id, the network's class. Raises ManifestError for one that has no label."""
    if labels is None:
        return {one["id"]: int(one["id"]) for one in categories}
    unknown = sorted({str(one["name"]) for one in categories} - set(labels))
    if unknown:
        raise ManifestError(
            f"the annotations have categories that are no labels: {', '.join(unknown[:5])}; name them as the labels are"
        )
    return {one["id"]: list(labels).index(str(one["name"])) for one in categories}


def _boxes(document: Any, numbers: Mapping[str, int], classes: Mapping[Any, int], file: Path) -> dict[int, list[Truth]]:
    known = {one["id"]: one for one in document["images"]}
    places = {one["id"]: _place(str(one["file_name"]), numbers) for one in document["images"]}
    if lacking := sorted(set(numbers) - set(places.values())):
        others = [str(one["file_name"]) for one in document["images"] if not places[one["id"]]]
        raise ManifestError(
            f"{file} says nothing of {', '.join(lacking[:3])}; a picture without objects is listed, too"
            + (f". It has {', '.join(others[:3])}" if others else "")
        )
    found: dict[int, list[Truth]] = {number: [] for number in numbers.values()}
    for one in document["annotations"]:
        image = known[one["image_id"]]
        _require_inside(one["bbox"], image, file)
        if place := places[one["image_id"]]:
            truth = Truth(one["bbox"], classes[one["category_id"]], bool(one.get("iscrowd", 0)))
            found[numbers[place]].append(truth)
    return found


def _place(name: str, numbers: Mapping[str, int]) -> str | None:
    """The picture's name in its folder, where the annotations may have the folder's, too."""
    parts = Path(name).parts
    ends = (str(Path(*parts[place:])) for place in range(len(parts)))
    return next((end for end in ends if end in numbers), None)


def _require_inside(box: Any, image: Any, file: Path) -> None:
    x, y, wide, high = map(float, box)
    if not (wide > 0 and high > 0 and x >= -SLACK and y >= -SLACK
            and x + wide <= image["width"] + SLACK and y + high <= image["height"] + SLACK):  # fmt: skip
        raise ManifestError(
            f"{file}: the box {list(box)} of {image['file_name']} is not within its {image['width']}x{image['height']} "
            "pixels; boxes are [x, y, width, height]"
        )


def mean_average_precision(truths: Annotations, found: Mapping[int, Found]) -> float:
    """COCO's: over classes and thresholds of IoU from 0.5 to 0.95."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = _dataset(truths)
        coco.createIndex()
        results = [row for number in truths.boxes for row in _results(number, found[number])]
        if not results or not coco.dataset["annotations"]:
            return 0.0
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def _dataset(truths: Annotations) -> dict[str, Any]:
    pairs = [(number, truth) for number, boxes in truths.boxes.items() for truth in boxes]
    rows = [_row(place, *pair) for place, pair in enumerate(pairs, 1)]
    kinds = sorted({row["category_id"] for row in rows})
    return {
        "info": {},
        "images": [{"id": number} for number in truths.boxes],
        "annotations": rows,
        "categories": [{"id": kind} for kind in kinds],
    }


def _row(place: int, number: int, truth: Truth) -> dict[str, Any]:
    size = {"bbox": list(truth.box), "area": truth.box[2] * truth.box[3]}
    return {"id": place, "image_id": number, "category_id": truth.kind, "iscrowd": int(truth.is_crowd)} | size


def _results(number: int, found: Found) -> list[dict[str, Any]]:
    return [
        {"image_id": number, "category_id": int(kind), "bbox": [x, y, right - x, bottom - y], "score": score}
        for (x, y, right, bottom), score, kind in zip(
            found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True
        )
    ]
