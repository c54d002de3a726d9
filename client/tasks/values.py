"""Arrays as people and JSON read them."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from client.types import Array

SHOWN = 6
"""Values in an excerpt."""
LETTERS = 40
"""Of a text in an excerpt."""
SMALL = 1000
"""Values that JSON is given."""


def excerpt(array: Array) -> str:
    """The first values."""
    words = [_word(value) for value in array.flat[:SHOWN].tolist()]
    return " ".join([*words, "..."] if array.size > SHOWN else words)


def record(name: str, datatype: str, array: Array) -> dict[str, Any]:
    """With `data`, in the array's own form, where it is small.

    Bytes are text where they are UTF-8, and {"base64": text} elsewhere; what JSON has no numbers for is "NaN",
    "Infinity" or "-Infinity".
    """
    described = {"name": name, "datatype": datatype, "shape": list(array.shape)}
    return described if array.size > SMALL else described | {"data": _plain(array.tolist())}


def _word(value: Any) -> str:
    if isinstance(value, bytes):
        text = repr(value.decode()) if _is_text(value) else repr(value)
        return text if len(text) <= LETTERS else f"{text[:LETTERS]}... ({len(value)} bytes)"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode() if _is_text(value) else {"base64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
