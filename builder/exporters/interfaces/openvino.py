"""OpenVINO's IR, by its XML: the tensors of Parameter and Result, and the constants' place in the .bin beside it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from builder.errors import NetworkError
from builder.exporters.interfaces import files
from builder.triton.interface import Interface, ToldTensor
from builder.triton.signature import ANY_SIZE

KIND = "OpenVINO IR"
DATA_TYPES = {
    "f32": "FP32", "fp32": "FP32", "f16": "FP16", "fp16": "FP16", "bf16": "BF16", "f64": "FP64", "fp64": "FP64",
    "boolean": "BOOL", "bool": "BOOL", "string": "STRING", "i8": "INT8", "i16": "INT16", "i32": "INT32",
    "i64": "INT64", "u8": "UINT8", "u16": "UINT16", "u32": "UINT32", "u64": "UINT64",
}  # fmt: skip
"""The XML's names, in lower case -> Triton's."""
PRECISIONS = {"f32": "fp32", "f64": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8"}


def interface(path: Path) -> Interface:
    """Raises NetworkError."""
    files.head_of(path)
    net = _parsed(path)
    layers = {layer.get("id", ""): layer for layer in net.iterfind("layers/layer")}
    sources = {edge.get("to-layer", ""): edge for edge in net.iterfind("edges/edge")}
    results = [layer for layer in layers.values() if layer.get("type") == "Result"]
    if not results:
        raise files.damaged(path, KIND, "it has no Result")
    _require_weights(path, layers.values())
    return Interface(
        inputs=tuple(_input(layer, path) for layer in layers.values() if layer.get("type") == "Parameter"),
        outputs=tuple(_output(layer, layers, sources, path) for layer in results),
        precision=_precision(layers.values()),
        facts=_facts(net),
        beside=(path.with_suffix(".bin").name,) if path.with_suffix(".bin").is_file() else (),
    )


def _parsed(path: Path) -> Any:
    from xml.etree import ElementTree

    try:
        net = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        raise files.damaged(path, KIND, error) from None
    if net.tag != "net":
        raise NetworkError(f"{path} is XML of another kind (<{net.tag}>), not {KIND}; correct the path")
    return net


def _require_weights(path: Path, layers: Any) -> None:
    """Raise NetworkError where the constants are not in the .bin of the same name."""
    ends = [_number(data.get("offset")) + _number(data.get("size")) for data in _constants(layers)]
    if any(ends):
        files.beside(path, path.with_suffix(".bin").name, max(ends))


def _constants(layers: Any) -> list[Any]:
    found = [layer.find("data") for layer in layers if layer.get("type") == "Const"]
    return [data for data in found if data is not None]


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _input(layer: Any, path: Path) -> ToldTensor:
    data, port = layer.find("data"), layer.find("output/port")
    if data is None:
        raise files.damaged(path, KIND, "a Parameter tells nothing of itself")
    name = _name(port.get("names") if port is not None else "", layer)
    shape = data.get("shape")
    return ToldTensor(name, _data_type(data.get("element_type", ""), name, path), _sizes(shape))


def _output(result: Any, layers: Any, sources: Any, path: Path) -> ToldTensor:
    """What feeds a Result, under the name that the Result gives it, or its own."""
    edge = sources.get(result.get("id", ""))
    layer = layers.get(edge.get("from-layer")) if edge is not None else None
    if edge is None or layer is None:
        raise files.damaged(path, KIND, "a Result has no source")
    port = next((p for p in layer.iterfind("output/port") if p.get("id") == edge.get("from-port")), None)
    if port is None:
        raise files.damaged(path, KIND, "a Result has no source")
    name = _name(result.get("output_names") or port.get("names"), result)
    dims = [dim.text or "" for dim in port.iterfind("dim")]
    return ToldTensor(name, _data_type(port.get("precision", ""), name, path), _sizes(",".join(dims)) if dims else None)


def _name(names: str | None, layer: Any) -> str:
    """Of several names of a tensor the first in order; commas in one are escaped."""
    listed = sorted(name.replace("\0", ",") for name in (names or "").replace("\\,", "\0").split(",") if name)
    return listed[0] if listed else layer.get("name", "")


def _data_type(form: str, name: str, path: Path) -> str:
    if form.lower() not in DATA_TYPES:
        raise NetworkError(f"{path}: {name} is {form or 'of no type'}, for which Triton has no data type; convert it")
    return DATA_TYPES[form.lower()]


def _sizes(shape: str | None) -> tuple[int, ...] | None:
    """`1,3,?,8..16`: what is no number is any size; `...`: any number of axes, which tells nothing."""
    if shape is None or "..." in shape:
        return None
    return tuple(int(size) if size.strip().isdecimal() else ANY_SIZE for size in shape.split(",") if size.strip())


def _precision(layers: Any) -> str | None:
    if any(layer.get("type") == "FakeQuantize" for layer in layers):
        return "int8"
    room: Counter[str] = Counter()
    for data in _constants(layers):
        if (form := data.get("element_type", "")) in PRECISIONS:
            room[PRECISIONS[form]] += _number(data.get("size"))
    return room.most_common(1)[0][0] if room else None


def _facts(net: Any) -> dict[str, str]:
    version = net.find("rt_info/Runtime_version")
    found = {"ir_version": net.get("version", ""), "producer": version.get("value", "") if version is not None else ""}
    return {key: value for key, value in found.items() if value}
