"""ONNX files as artifacts: copied with their weights, or with an activation, a batch axis or 8 bits of ours."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from builder.errors import ExportError
from builder.exporters import onnx_file, onnx_int8
from builder.exporters.adopting import endings
from builder.exporters.interfaces.onnx import graphs_of, parsed, tensors_of
from builder.triton.interface import Interface
from builder.triton.signature import TensorSpec
from builder.types import AdoptRequest

SUFFIXES: tuple[str, ...] = (".onnx",)
ADDS_ACTIVATION = True
RUNS_WHERE_BUILT = False
BATCH = "batch"
NODES = {"softmax": "Softmax", "sigmoid": "Sigmoid"}
INT8_OPSET = 13
"""The first whose DequantizeLinear has a scale a channel."""


def precisions(told: Interface) -> tuple[str, ...]:
    own = (told.precision,) if told.precision else ("fp32", "fp16", "int8")
    return (*own, "int8") if told.precision == "fp32" else own


def adopt(request: AdoptRequest) -> dict[str, str]:
    if not (request.changes_precision and request.target.precision == "int8"):
        _write(request, request.source)
        return dict(request.interface.facts)
    with tempfile.TemporaryDirectory(dir=request.path.parent, prefix=".onnx-") as folder:
        joined = Path(folder, "joined.onnx")
        onnx_file.join(_quantized(request, Path(folder)), joined)
        _write(request, joined)
    return request.interface.facts | {"quantised_by": "onnxruntime"}


def _quantized(request: AdoptRequest, folder: Path) -> Path:
    """A graph with its weights in 8 bits, in the folder. Raises ExportError."""
    if request.calibration is None:
        raise ExportError("int8 is calibrated, and there is nothing to calibrate it with; give `calibration:`")
    opset = request.interface.facts.get("opset", "")
    if opset.isdecimal() and int(opset) < INT8_OPSET:
        raise ExportError(
            f"int8 needs opset {INT8_OPSET} or later, and {request.source.name} is written in {opset}; convert it with "
            f"onnx.version_converter.convert_version(model, {INT8_OPSET}), or ship it with `format: openvino`"
        )
    graph = folder / "source.onnx"
    for name in request.interface.beside:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(request.source.parent / name, folder / name)
    shutil.copyfile(request.source, graph)
    return onnx_int8.quantize(graph, request.calibration, onnx_int8.FOR_CPUS)


def _write(request: AdoptRequest, source: Path) -> None:
    """The graph, changed where that is asked for, and the files of weights that it names."""
    model = parsed(source)
    if request.activation != "none":
        endings.require_scores(endings.last_of_graph(model.graph), request.source.name)
    changed = _finished(model.graph, request.activation, request.is_widened)
    if request.target.max_batch_size:
        changed = _opened(model.graph) or changed
    changed = _told(model.graph, request.outputs, bool(request.target.max_batch_size)) or changed
    beside = request.interface.beside if source == request.source else ()
    places = _places(beside, request.path.name)
    changed = _relocated(model, places) or changed
    if changed:
        request.path.write_bytes(model.SerializeToString())
    else:
        shutil.copyfile(source, request.path)
    for name, place in places.items():
        shutil.copyfile(source.parent / name, request.path.with_name(place))


def _places(names: tuple[str, ...], graph: str) -> dict[str, str]:
    """By their names, those that files of weights get: their own, or one beside the graph for those in folders."""
    if all("/" not in name and "\\" not in name and name != graph for name in names):
        return {name: name for name in names}
    return {name: f"{graph}.data{number or ''}" for number, name in enumerate(names)}


def _relocated(model: Any, places: dict[str, str]) -> bool:
    found = [entry for tensor in tensors_of(model) for entry in tensor.external_data if entry.key == "location"]
    moved = [entry for entry in found if places.get(entry.value, entry.value) != entry.value]
    for entry in moved:
        entry.value = places[entry.value]
    return bool(moved)


def _opened(graph: Any) -> bool:
    """Declare the batch axis to be of any size, without which no server batches; whether one was not.

    An input's is of one size only where batches are of one, and an output's is often so by mistake of its exporter: the
    artifact is run in all batch sizes before it is published.
    """
    own = {tensor.name for tensor in graph.initializer}
    axes = [_batch_axis(value) for value in (*graph.input, *graph.output) if value.name not in own]
    fixed = [axis for axis in axes if axis is not None and axis.WhichOneof("value") == "dim_value"]
    for axis in fixed:
        axis.dim_param = BATCH
    if fixed:  # what was inferred of them says the old size
        del graph.value_info[:]
    return bool(fixed)


def _told(graph: Any, found: Sequence[TensorSpec], batched: bool) -> bool:
    """Declare the sizes that outputs have and the graph leaves open; whether there were any.

    ONNX Runtime's backend compares the config's sizes with those that the graph declares, or that it can infer, and
    refuses the model where the config tells one that the graph does not.
    """
    sizes = {output.name: (-1,) * batched + output.shape for output in found}
    declared = {value.name: value.type.tensor_type.shape.dim for value in graph.output}
    pairs = [pair for name in sizes.keys() & declared.keys() for pair in _open(declared[name], sizes[name])]
    for axis, size in pairs:
        axis.dim_value = size
    return bool(pairs)


def _open(axes: Sequence[Any], sizes: Sequence[int]) -> list[tuple[Any, int]]:
    if len(axes) != len(sizes):
        return []
    return [
        (a, size) for a, size in zip(axes, sizes, strict=True) if size >= 0 and a.WhichOneof("value") != "dim_value"
    ]


def _batch_axis(value: Any) -> Any:
    tensor = value.type.tensor_type
    return tensor.shape.dim[0] if tensor.HasField("shape") and tensor.shape.dim else None


def _finished(graph: Any, activation: str, is_widened: bool) -> bool:
    """Put what makes probabilities of it behind the one output, under the output's own name; whether there is any."""
    from onnx import TensorProto, helper

    form = graph.output[0].type.tensor_type
    last = []
    if form.elem_type != TensorProto.FLOAT and (is_widened or activation != "none"):
        form.elem_type = TensorProto.FLOAT
        last.append(helper.make_node("Cast", [], [], to=TensorProto.FLOAT))
    if activation != "none":
        last.append(helper.make_node(NODES[activation], [], []))
    if activation == "softmax":
        last[-1].attribute.append(helper.make_attribute("axis", 1))
    if last:
        _append(graph, last)
    return bool(last)


def _append(graph: Any, nodes: list[Any]) -> None:
    """Put nodes of one input and one output behind each other, and behind the graph."""
    (output,) = graph.output
    name, taken = output.name, set(_names(graph))
    before = _free(f"{name}_scores", taken)
    _rename(graph, name, before)
    for number, node in enumerate(nodes, start=1):
        after = name if number == len(nodes) else _free(f"{name}_float", taken)
        node.input.append(before)
        node.output.append(after)
        before = after
    graph.node.extend(nodes)


def _rename(graph: Any, name: str, new: str) -> None:
    """Give the tensor that a node makes another name, wherever it is used. Raises ExportError where no node does."""
    makers = [node for node in graph.node if name in node.output]
    if not makers:
        raise ExportError(f"its output {name} is an input or a constant of it, not the result of a computation")
    for node in makers:
        node.output[:] = [new if output == name else output for output in node.output]
    for node in (node for inner in graphs_of(graph) for node in inner.node):
        node.input[:] = [new if taken == name else taken for taken in node.input]
    for inner in list(graphs_of(graph))[1:]:
        for value in inner.output:
            value.name = new if value.name == name else value.name


def _names(graph: Any) -> Iterator[str]:
    for inner in graphs_of(graph):
        yield from (value.name for value in (*inner.input, *inner.output, *inner.initializer))
        for node in inner.node:
            yield from (*node.input, *node.output)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
