"""ONNX files, past their weights: a file of gigabytes costs no more than its list of nodes."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from builder.check.backends.network import ANY, DamagedError, Network, Tensor
from builder.util.wire import MESSAGE, VARINT, Data, Field, fields, varint

# Numbers of fields: of ModelProto, GraphProto, ValueInfoProto, TypeProto, its Tensor, TensorShapeProto, TensorProto.
GRAPH = 7
NODE, INITIALIZER, INPUT, OUTPUT = 1, 5, 11, 12
NAME, TYPE = 1, 2
KINDS = {4: "a sequence", 5: "a map", 8: "a sparse tensor", 9: "an optional value", 7: "an opaque value"}
TENSOR_TYPE = 1
ELEMENT, SHAPE = 1, 2
SIZE = 1
TENSOR_NAME, EXTERNAL_DATA, LOCATION = 8, 13, 14
EXTERNAL = 1
DATA_TYPES = {
    1: "FP32", 2: "UINT8", 3: "INT8", 4: "UINT16", 5: "INT16", 6: "INT32", 7: "INT64", 8: "STRING", 9: "BOOL",
    10: "FP16", 11: "FP64", 12: "UINT32", 13: "UINT64", 16: "BF16",
}  # fmt: skip
"""TensorProto.DataType -> Triton's."""
OLD = 4
"""Before this version of the format, every weight was listed as an input, and none could be replaced."""
IR_VERSION = 1
ORT = b"ORTM"
"""ONNX Runtime's own format has this behind its first four bytes."""


@dataclass
class _Graph:
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    weights: set[str] = field(default_factory=set)
    external: dict[str, int] = field(default_factory=dict)
    """File -> how many bytes are read of it."""
    nodes: int = 0


def network(path: Path) -> Network | None:
    """None for what tells nothing. Raises DamagedError, OSError."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[4:8] == ORT:
            return None
        try:
            version, graph = _model(data)
        except (ValueError, UnicodeDecodeError) as error:
            raise DamagedError(f"it is no ONNX model, or is cut short: {error}") from None
    return _network(version, graph, path)


def _network(version: int, graph: _Graph, path: Path) -> Network:
    listed = [tensor for tensor in graph.inputs if tensor.name in graph.weights]
    return Network(
        inputs=tuple(tensor for tensor in graph.inputs if tensor.name not in graph.weights),
        outputs=tuple(graph.outputs),
        defaults=tuple(listed) if version >= OLD else (),
        missing=tuple(_absent(graph.external, path.parent)),
    )


def _model(data: Data) -> tuple[int, _Graph]:
    version, graph = 0, _Graph()
    for part in fields(data, 0, len(data)):
        if (part.number, part.wire) == (GRAPH, MESSAGE):
            _read_graph(data, part, graph)
        elif (part.number, part.wire) == (IR_VERSION, VARINT):
            version = varint(data, part.value, part.end)[0]
    if not graph.outputs:
        raise ValueError("it has no graph with outputs")
    return version, graph


def _read_graph(data: Data, place: Field, graph: _Graph) -> None:
    for part in fields(data, place.value, place.end):
        if part.wire != MESSAGE:
            continue
        if part.number in (INPUT, OUTPUT):
            (graph.inputs if part.number == INPUT else graph.outputs).append(_tensor(data, part))
        elif part.number == INITIALIZER:
            _read_weight(data, part, graph)


def _read_weight(data: Data, place: Field, graph: _Graph) -> None:
    entries: dict[str, str] = {}
    is_external = False
    for part in fields(data, place.value, place.end):
        if part.number == TENSOR_NAME:
            graph.weights.add(_text(data, part))
        elif part.number == EXTERNAL_DATA and part.wire == MESSAGE:
            pair = {inner.number: _text(data, inner) for inner in fields(data, part.value, part.end)}
            entries[pair.get(1, "")] = pair.get(2, "")
        elif part.number == LOCATION and part.wire == VARINT:
            is_external = varint(data, part.value, part.end)[0] == EXTERNAL
    if is_external and (name := entries.get("location", "")):
        end = _number(entries.get("offset", "")) + _number(entries.get("length", ""))
        graph.external[name] = max(graph.external.get(name, 0), end)


def _tensor(data: Data, place: Field) -> Tensor:
    name, found = "", Tensor(("",))
    for part in fields(data, place.value, place.end):
        if part.number == NAME:
            name = _text(data, part)
        elif part.number == TYPE and part.wire == MESSAGE:
            found = _typed(data, part)
    return Tensor((name,), found.data_type, found.shape, found.kind)


def _typed(data: Data, place: Field) -> Tensor:
    for part in fields(data, place.value, place.end):
        if part.number in KINDS:
            return Tensor(("",), kind=KINDS[part.number])
        if part.number == TENSOR_TYPE and part.wire == MESSAGE:
            return _sized(data, part)
    return Tensor(("",))


def _sized(data: Data, place: Field) -> Tensor:
    data_type, shape = None, None
    for part in fields(data, place.value, place.end):
        if part.number == ELEMENT and part.wire == VARINT:
            data_type = DATA_TYPES.get(varint(data, part.value, part.end)[0])
        elif part.number == SHAPE and part.wire == MESSAGE:
            shape = tuple(_sizes(data, part))
    return Tensor(("",), data_type, shape)


def _sizes(data: Data, place: Field) -> Iterator[int]:
    for part in fields(data, place.value, place.end):
        if part.number == 1 and part.wire == MESSAGE:
            inner = next((i for i in fields(data, part.value, part.end) if (i.number, i.wire) == (SIZE, VARINT)), None)
            size = varint(data, inner.value, inner.end)[0] if inner else ANY
            yield size if 0 <= size < 1 << 63 else ANY


def _text(data: Data, part: Field) -> str:
    return data[part.value : part.end].decode()


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _absent(external: dict[str, int], folder: Path) -> Iterator[str]:
    for name, least in external.items():
        try:
            size = (folder / name).stat().st_size
        except (OSError, ValueError):
            yield f"{name} is not there"
        else:
            if size < least:
                yield f"{name} has {size} bytes, and {least} are read of it"
