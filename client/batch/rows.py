"""One image's line in a table of results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from client.errors import ClientError
from client.shown import json_line
from client.types import Classified, Prediction


@dataclass(frozen=True)
class Row:
    path: str
    predictions: tuple[Prediction, ...] = ()
    error: str = ""


def row_of(result: Classified[str]) -> Row:
    return Row(result.image, result.predictions, _reason(result.image, result.error) if result.error else "")


def _reason(path: str, error: ClientError) -> str:
    """What became of the image, without its path, which errors about local files begin with."""
    return str(error).removeprefix(f"{path}: ")


def as_record(row: Row) -> dict[str, Any]:
    if row.error:
        return {"path": row.path, "error": row.error}
    return {"path": row.path, "predictions": [_as_dict(prediction) for prediction in row.predictions]}


def from_record(record: dict[str, Any]) -> Row:
    predictions = tuple(
        Prediction(item["class"], item["label"], item["probability"]) for item in record.get("predictions", ())
    )
    return Row(record["path"], predictions, record.get("error", ""))


def as_line(record: dict[str, Any]) -> str:
    """One line of JSON in UTF-8, from which every path is read as it was."""
    return json_line(record) + "\n"


def _as_dict(prediction: Prediction) -> dict[str, Any]:
    return {"class": prediction.class_id, "label": prediction.label, "probability": prediction.probability}
