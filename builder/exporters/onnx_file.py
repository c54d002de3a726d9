"""A graph and its weights into one .onnx file, without holding the weights in memory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import IO, Any

# Protocol buffers end at 2 GiB; past this the weights stay in a file of their own beside the graph.
ONE_FILE_BYTES = 1_900_000_000
CHUNK_BYTES = 16 * 1024 * 1024
# Field numbers of onnx.proto with the wire type of bytes and messages (2), as they stand in a file.
GRAPH, INITIALIZER, RAW_DATA = (7 << 3 | 2, 5 << 3 | 2, 9 << 3 | 2)


def join(source: Path, target: Path) -> None:
    """Move an ONNX file with external weights to `target`: as one file if it may be one, else as two.

    Protocol buffers merge: the bytes of two messages, one behind the other, read as one message with
    the lists of both. So the graph is written without its weights, and each weight behind it as a
    graph that holds nothing else, copied from disk to disk.
    """
    import onnx

    model = onnx.load(str(source), load_external_data=False)
    graph = model.graph
    _forget_origins(graph)
    external = [tensor for tensor in graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    places = [_place(tensor) for tensor in external]
    if sum(length for _, _, length in places) > ONE_FILE_BYTES:
        _move_both(source, target, model, external)
        return
    inline = [tensor for tensor in graph.initializer if tensor.data_location != onnx.TensorProto.EXTERNAL]
    del graph.initializer[:]
    graph.initializer.extend(inline)
    with target.open("wb") as out:
        out.write(model.SerializeToString())
        for tensor, place in zip(external, places, strict=True):
            _write_weight(out, tensor, source.parent, place)


def _forget_origins(graph: Any) -> None:
    """Where in whose files each operation came from; equal networks are to be equal files."""
    graph.ClearField("metadata_props")
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("metadata_props")
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    _forget_origins(inner)


def _place(tensor: Any) -> tuple[str, int, int]:
    """(file, offset, length) of an external weight."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return entries["location"], int(entries.get("offset", 0)), int(entries["length"])


def _write_weight(out: IO[bytes], tensor: Any, folder: Path, place: tuple[str, int, int]) -> None:
    location, offset, length = place
    header = type(tensor)(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type).SerializeToString()
    raw = bytes([RAW_DATA]) + _varint(length)
    initializer = bytes([INITIALIZER]) + _varint(len(header) + len(raw) + length)
    message = len(initializer) + len(header) + len(raw) + length
    out.write(bytes([GRAPH]) + _varint(message) + initializer + header + raw)
    with (folder / location).open("rb") as data:
        data.seek(offset)
        while length:
            chunk = data.read(min(length, CHUNK_BYTES))
            if not chunk:
                raise EOFError(f"{folder / location} ends before the weights do")
            out.write(chunk)
            length -= len(chunk)


def _move_both(source: Path, target: Path, model: Any, external: list[Any]) -> None:
    weights = target.with_name(f"{target.name}.data")
    (location,) = {_place(tensor)[0] for tensor in external}
    for tensor in external:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = weights.name
    shutil.move(source.parent / location, weights)
    target.write_bytes(model.SerializeToString())


def _varint(number: int) -> bytes:
    """A protocol buffer's form of a number: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
