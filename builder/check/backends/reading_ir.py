"""OpenVINO's IR, by its XML; the constants' numbers are in the .bin beside it, which is not opened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from builder.check.backends.network import ANY, DamagedError, Network, Tensor

DATA_TYPES = {
    "f32": "FP32", "fp32": "FP32", "f16": "FP16", "fp16": "FP16", "bf16": "BF16", "f64": "FP64", "fp64": "FP64",
    "boolean": "BOOL", "bool": "BOOL", "string": "STRING", "i8": "INT8", "i16": "INT16", "i32": "INT32",
    "i64": "INT64", "u8": "UINT8", "u16": "UINT16", "u32": "UINT32", "u64": "UINT64",
}  # fmt: skip
"""The XML's names, in lower case -> Triton's."""
MOST_DIGITS = 20
"""Python reads no more than some thousands, and no size has so many."""
MOST_BYTES = 64 * 1024 * 1024
"""Of XML that is read; a file of more is not judged."""


def network(path: Path) -> Network | None:
    """None for what tells nothing. Raises DamagedError, OSError."""
    from xml.etree import ElementTree

    if path.stat().st_size > MOST_BYTES:
        return None
    try:
        net = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DamagedError(f"it is no OpenVINO IR, or is cut short: {error}") from None
    if net.tag != "net":
        raise DamagedError(f"it is XML of another kind, <{net.tag}>")
    layers = {layer.get("id", ""): layer for layer in net.iterfind("layers/layer")}
    edges = {edge.get("to-layer", ""): edge for edge in net.iterfind("edges/edge")}
    return Network(
        inputs=tuple(_input(layer) for layer in _of(layers, "Parameter")),
        outputs=tuple(_output(layer, layers, edges) for layer in _of(layers, "Result")),
        missing=tuple(_absent(path, layers.values())),
    )


def _of(layers: dict[str, Any], kind: str) -> Iterator[Any]:
    return (layer for layer in layers.values() if layer.get("type") == kind)


def _input(layer: Any) -> Tensor:
    data, port = layer.find("data"), layer.find("output/port")
    names = _names(port.get("names") if port is not None else "", layer.get("name", ""))
    if data is None:
        return Tensor(names)
    shape = _sizes(data.get("shape"))
    return Tensor(names, DATA_TYPES.get(data.get("element_type", "").lower()), shape, has_batch=_has_batch(port))


def _output(result: Any, layers: dict[str, Any], edges: dict[str, Any]) -> Tensor:
    """What feeds a Result, under the names that the Result gives it, or its own."""
    edge = edges.get(result.get("id", ""))
    source = layers.get(edge.get("from-layer", "")) if edge is not None else None
    ports = source.iterfind("output/port") if source is not None else ()
    wanted = edge.get("from-port") if edge is not None else None
    port = next((port for port in ports if port.get("id") == wanted), None)
    if port is None:
        return Tensor((result.get("output_names") or result.get("name", ""),))
    names = _names(result.get("output_names") or port.get("names"), result.get("name", ""))
    shape = tuple(_size(dim.text) for dim in port.iterfind("dim"))
    data_type = DATA_TYPES.get(port.get("precision", "").lower())
    return Tensor(names, data_type, shape, has_batch=_has_batch(result.find("input/port")))


def _names(names: str | None, own: str) -> tuple[str, ...]:
    """Commas in a name are escaped."""
    listed = [name.replace("\0", ",") for name in (names or "").replace("\\,", "\0").split(",") if name]
    return tuple(sorted(listed)) or (own,)


def _has_batch(port: Any) -> bool:
    layout = port.find("rt_info/attribute[@name='layout']") if port is not None else None
    return layout is not None and "N" in layout.get("layout", "").upper()


def _sizes(shape: str | None) -> tuple[int, ...] | None:
    """`1,3,?,8..16`; `...`: any number of axes, which tells nothing."""
    if shape is None or "..." in shape:
        return None
    return tuple(_size(size) for size in shape.split(",") if size.strip())


def _size(text: str | None) -> int:
    """What is no number, or too long for one, is any size."""
    digits = (text or "").strip()
    return int(digits) if digits.isdecimal() and len(digits) < MOST_DIGITS else ANY


def _absent(path: Path, layers: Iterable[Any]) -> Iterator[str]:
    """The .bin of the same name, where constants are read of it."""
    found = [layer.find("data") for layer in layers if layer.get("type") == "Const"]
    least = max((_end(data) for data in found if data is not None), default=0)
    if not least:
        return
    weights = path.with_suffix(".bin")
    try:
        size = weights.stat().st_size
    except OSError:
        yield f"{weights.name} is not there"
    else:
        if size < least:
            yield f"{weights.name} has {size} bytes, and {least} are read of it"


def _end(data: Any) -> int:
    return max(_size(data.get("offset")), 0) + max(_size(data.get("size")), 0)
