"""Encoded images to the objects on them: boxes in pixels of the upright picture, with a class and a score each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from client.errors import InvalidOption, ServerError
from client.tasks import encoded
from client.tasks.exchange import Columns, Exchange
from client.types import Detection, Image, Inference, ModelInfo, Output

PLURAL = "detectors"
NAME = "detection"
BY_VERSION = True
BOXES, SCORES, CLASSES, COUNT = OUTPUTS = ("BOXES", "SCORES", "CLASSES", "COUNT")


@dataclass(frozen=True)
class Request:
    images: Sequence[Image]
    threshold: float | None = None
    """Only detections with at least this score; the model's own threshold holds in any case."""


def making(threshold: float | None) -> Callable[[Sequence[Image]], Request]:
    return lambda images: Request(images, threshold)


def takes(request: Any) -> bool:
    return isinstance(request, Request)


def recognises(info: ModelInfo) -> bool:
    """All detectors say what they are."""
    return False


def refusal(info: ModelInfo) -> str:
    return encoded.refusal(info, NAME, OUTPUTS, "find objects on encoded images")


def check(info: ModelInfo, request: Request) -> None:
    if request.threshold is not None and not 0 <= request.threshold <= 1:
        raise InvalidOption(f"the threshold must be from 0 to 1, not {request.threshold:g}")


def files(request: Request) -> Sequence[Image]:
    return request.images


def encode(info: ModelInfo, request: Request, contents: Sequence[bytes]) -> Sequence[Inference]:
    check(info, request)
    tensor = encoded.tensor(info, contents, "look for objects on")
    return [Inference(info.name, (tensor,), tuple(map(Output, OUTPUTS)))]


def decode(info: ModelInfo, request: Request, exchanges: Sequence[Exchange]) -> list[tuple[Detection, ...]]:
    (exchange,) = exchanges
    lacking = [name for name in OUTPUTS if exchange.answer[name] is None]
    if lacking:
        raise ServerError(f"{info.name} did not give {', '.join(lacking)}")
    names, images = encoded.labels(exchange.told or info), len(request.images)
    rows = [exchange.answer[name].reshape(images, -1).tolist() for name in OUTPUTS]  # type: ignore[union-attr]
    least = request.threshold or 0.0
    return [_detections(*given, names, least) for given in zip(rows[0], rows[1], rows[2], rows[3], strict=True)]


def columns(info: ModelInfo, request: Request) -> Columns:
    settings = {"task": NAME} | ({} if request.threshold is None else {"threshold": request.threshold})
    names = ("x1", "y1", "x2", "y2", "class", "label", "score")
    return Columns(names, _rows, _record, settings, _answer, _fields, encoded.labels(info))


def as_dict(detection: Detection) -> dict[str, Any]:
    return {
        "box": list(detection.box),
        "class": detection.class_id,
        "label": detection.label,
        "score": detection.score,
    }


def _detections(
    boxes: list[float],
    scores: list[float],
    classes: list[int],
    count: list[int],
    names: Sequence[str],
    least: float,
) -> tuple[Detection, ...]:
    """Rows from the count on are filled up, and no detections."""
    found = []
    for n in range(min(count[0], len(scores))):
        if scores[n] >= least:
            x1, y1, x2, y2 = boxes[4 * n : 4 * n + 4]
            found.append(Detection((x1, y1, x2, y2), encoded.label(names, classes[n]), classes[n], scores[n]))
    return tuple(found)


def _rows(detections: Sequence[Detection]) -> list[list[object]]:
    """One a detection; an empty one for a picture without any, so that it is not lost."""
    return [[*d.box, d.class_id, d.label, d.score] for d in detections] or [[]]


def _record(detections: Sequence[Detection]) -> dict[str, Any]:
    return {"detections": list(map(as_dict, detections))}


def _answer(record: Mapping[str, Any]) -> tuple[Detection, ...]:
    found = record["detections"]
    return tuple(Detection(tuple(d["box"]), d["label"], d["class"], d["score"]) for d in found)


def _fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    fields = [("box", pa.list_(pa.float32())), ("class", pa.int32()), ("label", pa.string()), ("score", pa.float32())]
    return [("detections", pa.list_(pa.struct(fields)))]
