"""ONNX files, by their protocol buffer: tensors, operator sets, and weights that lie in other files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from builder.errors import NetworkError
from builder.exporters.interfaces import files, onnx_wire
from builder.triton.interface import Interface, ToldTensor
from builder.triton.signature import ANY_SIZE

KIND = "an ONNX model"
DATA_TYPES = {
    "FLOAT": "FP32", "UINT8": "UINT8", "INT8": "INT8", "UINT16": "UINT16", "INT16": "INT16", "INT32": "INT32",
    "INT64": "INT64", "STRING": "STRING", "BOOL": "BOOL", "FLOAT16": "FP16", "DOUBLE": "FP64", "UINT32": "UINT32",
    "UINT64": "UINT64", "BFLOAT16": "BF16",
}  # fmt: skip
"""ONNX's names -> Triton's."""
PRECISIONS = {"FLOAT": "fp32", "DOUBLE": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16", "INT8": "int8", "UINT8": "int8"}
QUANTISED = ("QuantizeLinear", "QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger", "DynamicQuantizeLinear")


def interface(path: Path) -> Interface:
    """Raises NetworkError."""
    files.head_of(path)
    model = _parsed(path, onnx_wire.without_numbers)
    _require_whole(model, path)
    own = {tensor.name for tensor in (*model.graph.initializer, *(s.values for s in model.graph.sparse_initializer))}
    tensors = list(tensors_of(model))
    return Interface(
        inputs=tuple(_told(value, path, "takes") for value in model.graph.input if value.name not in own),
        outputs=tuple(_told(value, path, "gives") for value in model.graph.output),
        precision=_precision(model, tensors),
        facts=_facts(model),
        beside=_beside(tensors, path),
    )


def parsed(path: Path) -> Any:
    """The model, but for weights that lie in other files. Raises NetworkError."""
    return _parsed(path, Path.read_bytes)


def _parsed(path: Path, read: Callable[[Path], bytes]) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(read(path))
    except (DecodeError, OSError, ValueError) as error:
        raise files.damaged(path, KIND, error) from None
    if not model.HasField("graph") or not model.graph.output:
        raise files.damaged(path, KIND)
    return model


def graphs_of(graph: Any) -> Iterator[Any]:
    """The graph, and those that its branches and loops hold."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ((attribute.g,) if attribute.HasField("g") else ()) + tuple(attribute.graphs):
                yield from graphs_of(inner)


def tensors_of(model: Any) -> Iterator[Any]:
    """All weights and constants."""
    nodes = [node for function in model.functions for node in function.node]
    for graph in graphs_of(model.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        nodes += graph.node
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t,) if attribute.HasField("t") else ()
            yield from attribute.tensors


def _require_whole(model: Any, path: Path) -> None:
    """Raise NetworkError where something is used that is nowhere: what is cut short may still be a protocol buffer."""
    graph = model.graph
    known = {value.name for value in (*graph.input, *graph.initializer)} | {""}
    known |= {sparse.values.name for sparse in graph.sparse_initializer}
    known |= {name for node in graph.node for name in node.output}
    used = [name for node in graph.node for name in node.input] + [value.name for value in graph.output]
    if missing := next((name for name in used if name not in known), None):
        raise files.damaged(path, KIND, f"{missing!r} is used and nowhere defined")


def _told(value: Any, path: Path, verb: str) -> ToldTensor:
    from onnx import TensorProto

    kind = value.type.WhichOneof("value")
    if kind not in ("tensor_type", None):
        what = kind.removesuffix("_type").replace("_", " ")
        raise NetworkError(
            f"{path} {verb} {value.name} as a {what}, and Triton has tensors alone; export it without (skl2onnx: "
            "options={'zipmap': False})"
        )
    tensor = value.type.tensor_type
    if not tensor.elem_type:
        return ToldTensor(value.name)
    values = TensorProto.DataType.values()
    form = TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type in values else str(tensor.elem_type)
    if form not in DATA_TYPES:
        raise NetworkError(f"{path} {verb} {value.name} as {form}, for which Triton has no data type; cast it in it")
    return ToldTensor(value.name, DATA_TYPES[form], _shape(tensor) if tensor.HasField("shape") else None)


def _shape(tensor: Any) -> tuple[int, ...]:
    sizes = [dim.dim_value if dim.WhichOneof("value") == "dim_value" else ANY_SIZE for dim in tensor.shape.dim]
    return tuple(size if size >= 0 else ANY_SIZE for size in sizes)


def _precision(model: Any, tensors: list[Any]) -> str | None:
    """By the weights that take most room; what is quantised by its operators, wherever the weights are rounded."""
    from onnx import TensorProto

    kinds = {node.op_type for graph in graphs_of(model.graph) for node in graph.node}
    if kinds & set(QUANTISED):
        return "int8"
    names = {number: name for name, number in TensorProto.DataType.items()}
    room: Counter[str] = Counter()
    for tensor in tensors:
        if (name := names.get(tensor.data_type, "")) in PRECISIONS:
            room[PRECISIONS[name]] += _elements(tensor)
    return room.most_common(1)[0][0] if room else None


def _elements(tensor: Any) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count


def _facts(model: Any) -> dict[str, str]:
    producer = f"{model.producer_name} {model.producer_version}".strip()
    opsets = {opset.domain or "ai.onnx": str(opset.version) for opset in model.opset_import}
    own = opsets.pop("ai.onnx", "")
    others = " ".join(f"{domain}:{version}" for domain, version in sorted(opsets.items()))
    found = {"opset": own, "other_opsets": others, "producer": producer}
    return {key: value for key, value in found.items() if value}


def _beside(tensors: list[Any], path: Path) -> tuple[str, ...]:
    """Files of weights, each with as many bytes as are read of it. Raises NetworkError."""
    from onnx import TensorProto

    least: dict[str, int] = {}
    for tensor in tensors:
        if tensor.data_location == TensorProto.EXTERNAL:
            name, end = _place(tensor, path)
            least[name] = max(least.get(name, 0), end)
    for name, size in least.items():
        files.beside(path, name, size)
    return tuple(least)


def _place(tensor: Any, path: Path) -> tuple[str, int]:
    """The file of an external weight, and where in it the weight ends."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    try:
        return entries.get("location", ""), int(entries.get("offset", 0)) + int(entries.get("length", 0))
    except ValueError:
        raise files.damaged(path, KIND, f"{tensor.name} does not say where it lies") from None
