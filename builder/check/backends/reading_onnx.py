"""ONNX files, past their weights: a file of gigabytes costs no more than its list of nodes."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from builder.check.backends.network import ANY, DamagedError, Network, Tensor
from builder.util.wire import MESSAGE, VARINT, Data, Field, fields, varint

# Numbers of fields: of ModelProto, GraphProto, ValueInfoProto, TypeProto, its Tensor, TensorShapeProto, TensorProto.
GRAPH = 7
INITIALIZER, INPUT, OUTPUT = 5, 11, 12
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
MOST_DIGITS = 20
"""Python reads no more than some thousands, and no size has so many."""
MOST_PARTS = 1_000_000
"""That are looked at; a file of more is not judged."""


def network(path: Path) -> Network | None:
    """None for what tells nothing. Raises DamagedError, OSError."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[4:8] == ORT:
            return None
        reader = _Reader(data)
        try:
            reader.read()
        except OverflowError:
            return None
        except (ValueError, UnicodeDecodeError) as error:
            raise DamagedError(f"it is no ONNX model, or is cut short: {error}") from None
    return _network(reader, path)


def _network(graph: _Reader, path: Path) -> Network:
    listed = [tensor for tensor in graph.inputs if tensor.name in graph.weights]
    return Network(
        inputs=tuple(tensor for tensor in graph.inputs if tensor.name not in graph.weights),
        outputs=tuple(graph.outputs),
        defaults=tuple(listed) if graph.version >= OLD else (),
        missing=tuple(_absent(graph.external, path.parent)),
    )


class _Reader:
    """What is found in one file, by methods for each kind of message in it."""

    def __init__(self, data: Data) -> None:
        self._data, self._left = data, MOST_PARTS
        self.version = 0
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.weights: set[str] = set()
        self.external: dict[str, int] = {}
        """File -> how many bytes are read of it."""

    def read(self) -> None:
        """Raises ValueError for what is no ONNX, OverflowError for what is too long."""
        for part in self._parts(0, len(self._data)):
            if (part.number, part.wire) == (GRAPH, MESSAGE):
                self._read_graph(part)
            elif (part.number, part.wire) == (IR_VERSION, VARINT):
                self.version = self._number(part)
        if not self.outputs:
            raise ValueError("it has no graph with outputs")

    def _parts(self, start: int, end: int) -> Iterator[Field]:
        for part in fields(self._data, start, end):
            self._left -= 1
            if self._left < 0:
                raise OverflowError
            yield part

    def _of(self, place: Field) -> Iterator[Field]:
        return self._parts(place.value, place.end)

    def _number(self, part: Field) -> int:
        return varint(self._data, part.value, part.end)[0]

    def _text(self, part: Field) -> str:
        return self._data[part.value : part.end].decode()

    def _read_graph(self, place: Field) -> None:
        for part in self._of(place):
            if part.wire != MESSAGE:
                continue
            if part.number in (INPUT, OUTPUT):
                (self.inputs if part.number == INPUT else self.outputs).append(self._tensor(part))
            elif part.number == INITIALIZER:
                self._read_weight(part)

    def _read_weight(self, place: Field) -> None:
        entries: dict[str, str] = {}
        is_external = False
        for part in self._of(place):
            if part.number == TENSOR_NAME:
                self.weights.add(self._text(part))
            elif part.number == EXTERNAL_DATA and part.wire == MESSAGE:
                pair = {inner.number: self._text(inner) for inner in self._of(part)}
                entries[pair.get(1, "")] = pair.get(2, "")
            elif part.number == LOCATION and part.wire == VARINT:
                is_external = self._number(part) == EXTERNAL
        if is_external and (name := entries.get("location", "")):
            end = _whole(entries.get("offset", "")) + _whole(entries.get("length", ""))
            self.external[name] = max(self.external.get(name, 0), end)

    def _tensor(self, place: Field) -> Tensor:
        name, found = "", Tensor(("",))
        for part in self._of(place):
            if part.number == NAME:
                name = self._text(part)
            elif part.number == TYPE and part.wire == MESSAGE:
                found = self._typed(part)
        return Tensor((name,), found.data_type, found.shape, found.kind)

    def _typed(self, place: Field) -> Tensor:
        for part in self._of(place):
            if part.number in KINDS:
                return Tensor(("",), kind=KINDS[part.number])
            if part.number == TENSOR_TYPE and part.wire == MESSAGE:
                return self._sized(part)
        return Tensor(("",))

    def _sized(self, place: Field) -> Tensor:
        data_type, shape = None, None
        for part in self._of(place):
            if part.number == ELEMENT and part.wire == VARINT:
                data_type = DATA_TYPES.get(self._number(part))
            elif part.number == SHAPE and part.wire == MESSAGE:
                shape = tuple(self._size(inner) for inner in self._of(part) if inner.wire == MESSAGE)
        return Tensor(("",), data_type, shape)

    def _size(self, place: Field) -> int:
        part = next((part for part in self._of(place) if (part.number, part.wire) == (SIZE, VARINT)), None)
        size = self._number(part) if part else ANY
        return size if 0 <= size < 1 << 63 else ANY


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < MOST_DIGITS else 0


def _absent(external: dict[str, int], folder: Path) -> Iterator[str]:
    for name, least in external.items():
        try:
            size = (folder / name).stat().st_size
        except (OSError, ValueError):
            yield f"{name} is not there"
        else:
            if size < least:
                yield f"{name} has {size} bytes, and {least} are read of it"
