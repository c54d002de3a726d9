"""Encoded images to classes: one of them (softmax), or several labels at once (sigmoid)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from client.errors import InvalidOption, ServerError
from client.tasks import encoded
from client.tasks.exchange import Columns, Exchange
from client.types import AnyImage, Classified, Image, Inference, ModelInfo, Outcome, Output, Prediction

if TYPE_CHECKING:
    from client.types import Array

PLURAL = "image classifiers"
NAME = "classification"
BY_VERSION = False
"""The server itself gives the labels, with the scores."""
ACTIVATION = "activation"
SEVERAL = "sigmoid"
"""The activation of networks whose classes each have a probability of their own."""
SCORES = "none"
"""Of those that have none behind them: what they give may be any numbers."""
TOP = 5
THRESHOLD = 0.5
JOINED: tuple[str, ...] = ("count", "labels", "classes", "probabilities")
MOST_CLASSES = 100_000
"""Asked for where a model does not tell how many it has; it gives as many as there are."""


@dataclass(frozen=True)
class Choice:
    """Which of an image's classes are given; None is what is usual for the model."""

    top: int | None = None
    """At most so many, the best first."""
    threshold: float | None = None
    """Only those that are at least so probable."""


USUAL = Choice()


@dataclass(frozen=True)
class Request:
    images: Sequence[Image]
    choice: Choice | None = USUAL
    """None: the probabilities of all classes, as an array."""


def request(images: Sequence[Image], top: int | None, threshold: float | None) -> Request:
    return Request(images, Choice(top, threshold))


def making(top: int | None, threshold: float | None) -> Callable[[Sequence[Image]], Request]:
    return lambda images: request(images, top, threshold)


def takes(request: Any) -> bool:
    return isinstance(request, Request)


def recognises(info: ModelInfo) -> bool:
    """An ensemble does all that its models do, in one; a step of it is not what callers are to ask."""
    return info.platform == "ensemble" and _has_scores(info)


def refusal(info: ModelInfo) -> str:
    if info.task in (None, NAME) and _has_scores(info):
        return ""
    said = f"is for {info.task}, and " if info.task not in (None, NAME) else ""
    return f"{info.name} {said}does not map encoded images to classes; `repo-client models` shows what each takes"


def check(info: ModelInfo, request: Request) -> None:
    check_choice(info, request.choice or Choice())


def check_choice(info: ModelInfo, choice: Choice) -> None:
    """Raises InvalidOption."""
    _settled(info, choice)


def files(request: Request) -> Sequence[Image]:
    return request.images


def encode(info: ModelInfo, request: Request, contents: Sequence[bytes]) -> Sequence[Inference]:
    tensor = encoded.tensor(info, contents, "classify")
    return [Inference(info.name, (tensor,), (output(info, request.choice),))]


def output(info: ModelInfo, choice: Choice | None) -> Output:
    """The scores: of all classes, or as Triton's classification extension has those of the choice."""
    count = _count(info, _settled(info, choice)) if choice else 0
    return Output(info.outputs[0].name, count)


def decode(info: ModelInfo, request: Request, exchanges: Sequence[Exchange]) -> Any:
    (exchange,) = exchanges
    rows = scores(info, exchange, len(request.images))
    return rows if request.choice is None else chosen(info, request.choice, rows)


def scores(info: ModelInfo, exchange: Exchange, count: int) -> Array:
    """[count, classes], as `output` asked for them. Raises ServerError."""
    found = exchange.answer[info.outputs[0].name]
    if found is None:
        raise ServerError(f"{info.name} did not give {info.outputs[0].name}")
    return found.reshape(count, -1)


def chosen(
    info: ModelInfo, choice: Choice, rows: Iterable[Array], labels: Sequence[str] = ()
) -> list[tuple[Prediction, ...]]:
    """Of rows of the extension's cells; `labels` are for a server that has none of its own."""
    least = _settled(info, choice).threshold
    return [_predictions(row, least, labels) for row in rows]


def columns(info: ModelInfo, request: Request) -> Columns:
    return choice_columns(info, request.choice or Choice())


def choice_columns(
    info: ModelInfo, choice: Choice, more: Mapping[str, Any] | None = None, of_texts: bool = False
) -> Columns:
    """`more` is what of the request the answers depend on, beside the choice. Raises InvalidOption."""
    choice = _settled(info, choice)
    settings: dict[str, Any] = {**(more or {}), "top": choice.top}
    if choice.threshold is not None:
        settings["threshold"] = choice.threshold
    names, rows = JOINED, _joined
    if not gives_several(info):
        names, rows = _names_side_by_side(choice.top or TOP), _side_by_side
    return Columns(names, rows, _record, settings, _answer, _fields, of_texts=of_texts)


def _names_side_by_side(top: int) -> tuple[str, ...]:
    return tuple(f"{name}_{n}" for n in range(1, top + 1) for name in ("class", "label", "probability"))


def gives_several(info: ModelInfo) -> bool:
    """Whether several labels may be right at once: each has a probability of its own, and they do not sum to one."""
    return info.parameters.get(ACTIVATION) == SEVERAL


def every_class(info: ModelInfo) -> Choice:
    """To be told all labels."""
    return Choice(_classes(info), 0.0 if gives_several(info) else None)


def classified(outcome: Outcome[AnyImage]) -> Classified[AnyImage]:
    return Classified(outcome.image, outcome.answer or (), outcome.error)


def as_dict(prediction: Prediction) -> dict[str, Any]:
    return {"class": prediction.class_id, "label": prediction.label, "probability": prediction.probability}


def _has_scores(info: ModelInfo) -> bool:
    """Encoded images in, one score a class out; a preprocessing step's pixels have more axes."""
    kinds = [t.datatype for t in info.inputs], [t.datatype for t in info.outputs]
    return kinds == (["BYTES"], ["FP32"]) and len(_sides(info)) <= 1


def _sides(info: ModelInfo) -> list[int]:
    """Of one image's scores, without axes of one."""
    shape = info.outputs[0].shape
    return [side for side in (shape[1:] if info.max_batch_size else shape) if side != 1]


def _classes(info: ModelInfo) -> int:
    count = next(iter(_sides(info)), 1)
    return count if count > 0 else MOST_CLASSES


def _settled(info: ModelInfo, choice: Choice) -> Choice:
    """With what is usual for the model in place of None. Raises InvalidOption."""
    if choice.top is not None and choice.top < 1:
        raise InvalidOption("top must be at least 1")
    least = choice.threshold
    is_bounded = info.parameters.get(ACTIVATION) != SCORES
    if least is not None and not (0 <= least <= 1 if is_bounded else math.isfinite(least)):
        raise InvalidOption(f"the threshold must be {'from 0 to 1' if is_bounded else 'a number'}, not {least:g}")
    if gives_several(info):
        return Choice(choice.top, THRESHOLD if least is None else least)
    return Choice(choice.top or TOP, least)


def _count(info: ModelInfo, choice: Choice) -> int:
    """Classes to ask for, the best first, so that none beyond the threshold is lacking."""
    return choice.top or _classes(info)


def _predictions(row: Array, least: float | None, labels: Sequence[str]) -> tuple[Prediction, ...]:
    found = (_prediction(cell.decode(), labels) for cell in row)
    return tuple(one for one in found if least is None or one.probability >= least)


def _prediction(text: str, labels: Sequence[str]) -> Prediction:
    """From Triton's classification extension: "probability:class" or "probability:class:label"."""
    probability, class_id, *label = text.split(":", 2)
    number = int(class_id)
    return Prediction(number, label[0] if label and label[0] else encoded.label(labels, number), float(probability))


def _side_by_side(predictions: Iterable[Prediction]) -> list[list[object]]:
    return [[one for p in predictions for one in (p.class_id, p.label, p.probability)]]


def _joined(predictions: Sequence[Prediction]) -> list[list[object]]:
    lists = (
        [p.label for p in predictions],
        [str(p.class_id) for p in predictions],
        [f"{p.probability:.6g}" for p in predictions],
    )
    return [[len(predictions), *map(_listed, lists)]]


def _listed(texts: Sequence[str]) -> str:
    """With ; between them, and those that have one in quotes, as CSV itself is read."""
    file = io.StringIO()
    csv.writer(file, delimiter=";", lineterminator="").writerow(texts)
    return file.getvalue()


def _record(predictions: Iterable[Prediction]) -> dict[str, Any]:
    return {"predictions": list(map(as_dict, predictions))}


def _answer(record: Mapping[str, Any]) -> tuple[Prediction, ...]:
    return tuple(Prediction(p["class"], p["label"], p["probability"]) for p in record["predictions"])


def _fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    prediction = pa.struct([("class", pa.int32()), ("label", pa.string()), ("probability", pa.float32())])
    return [("predictions", pa.list_(prediction))]
