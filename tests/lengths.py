"""A task as somebody adds one: how long what an echo gives of a file is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from client.tasks.exchange import Columns, Exchange
from client.types import Image, Inference, ModelInfo, Output, Tensor

PLURAL = "echoes"
NAME = "lengths"
BY_VERSION = False


@dataclass(frozen=True)
class Request:
    files: Sequence[Image]


def takes(request: Any) -> bool:
    return isinstance(request, Request)


def recognises(info: ModelInfo) -> bool:
    return info.name.startswith("echo")


def refusal(info: ModelInfo) -> str:
    return "" if info.task == "lengths" else f"{info.name} does not echo"


def check(info: ModelInfo, request: Request) -> None:
    """Any files."""


def files(request: Request) -> Sequence[Image]:
    return request.files


def encode(info: ModelInfo, request: Request, contents: Sequence[bytes]) -> list[Inference]:
    data = np.array([*contents, None], object)[:-1]
    return [Inference(info.name, (Tensor("b", data, "BYTES"),), (Output("d"),))]


def decode(info: ModelInfo, request: Request, exchanges: Sequence[Exchange]) -> list[int]:
    echoed = exchanges[0].answer["d"]
    assert echoed is not None
    return [len(one) for one in echoed]


def columns(info: ModelInfo, request: Request) -> Columns:
    return Columns(
        ("length",),
        rows=lambda length: [[length]],
        record=lambda length: {"length": length},
        settings={},
        answer=lambda record: record["length"],
        fields=_fields,
    )


def _fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    return [("length", pa.int64())]
