"""ONNX Runtime's backend: it knows the artifact's tensors, and holds the config to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from builder.check.backends import agreement, parameters, place, reading_onnx
from builder.check.backends.network import ANY, DamagedError, Network, Tensor, named
from builder.check.findings import Finding, Level, Rule
from builder.check.model import Context, Model

DEFAULT_FILE = WITHIN = "model.onnx"
"""Also in a folder that stands under the artifact's name."""
DEFAULT_BATCH = 4
"""tritonserver's default-max-batch-size."""
OPTIONAL = Rule(
    "TMR706",
    "optional-input-in-batches",
    Level.ERROR,
    "An input is optional, and max_batch_size is above 0.",
    "ONNX Runtime's backend cannot put requests with it and without it into one batch.",
    "Take `optional` away, or set max_batch_size to 0.",
    "onnxruntime_backend: src/onnxruntime.cc ValidateInputs",
)
ACCELERATOR = Rule(
    "TMR707",
    "unknown-accelerator",
    Level.ERROR,
    "ONNX Runtime's backend has no execution accelerator of that name.",
    "It refuses what it does not know: tensorrt and cuda for GPUs, openvino for CPUs.",
    "Correct the name, or take it away.",
    "onnxruntime_backend: src/onnxruntime.cc LoadModel",
)
RULES: tuple[Rule, ...] = (OPTIONAL, ACCELERATOR)
CPU_ACCELERATORS = ("openvino",)


def _mode(value: str) -> str:
    if said := parameters.number(value):
        return said
    return "" if value.strip() in ("0", "1") else "Expected values for  execution_mode are 0 or 1"


PARAMETERS: dict[str, parameters.Reads] = {
    "execution_mode": _mode,
    "intra_op_thread_count": parameters.number,
    "inter_op_thread_count": parameters.number,
    "enable_mem_arena": parameters.truth,
    "enable_mem_pattern": parameters.truth,
}


def demands(model: Model, context: Context) -> Iterator[Finding]:
    yield from place.check(model, DEFAULT_FILE, within=WITHIN)
    yield from parameters.check(model, PARAMETERS)
    if model.filled.max_batch_size:
        for index, given in enumerate(model.filled.input):
            if given.optional:
                server = f"optional input '{given.name}' is not supported for models that support batching"
                message = f"input {given.name!r} is optional, and max_batch_size is {model.filled.max_batch_size}"
                yield model.finding(OPTIONAL, message, "input", index, "optional", server=server)
    listed = model.filled.optimization.execution_accelerators.cpu_execution_accelerator
    for index, one in enumerate(listed):
        if one.name not in CPU_ACCELERATORS:
            where = ("optimization", "execution_accelerators", "cpu_execution_accelerator", index, "name")
            server = f"unknown Execution Accelerator '{one.name}' is requested"
            yield model.finding(ACCELERATOR, f"there is no accelerator {one.name!r} for CPUs", *where, server=server)


def read(path: Path) -> Network | None:
    return reading_onnx.network(path)


def artifacts(model: Model, context: Context) -> Iterator[Finding]:
    for artifact in place.artifacts(model, DEFAULT_FILE, within=WITHIN):
        if why := place.foreign(artifact.path):
            yield place.damaged(model, artifact.path, f"it {why}")
            continue
        try:
            found = read(artifact.path)
        except DamagedError as error:
            yield place.damaged(model, artifact.path, str(error))
            continue
        if found:
            yield from agreement.weights(model, found, artifact)
            yield from _tensors(model, context, found)


def fill(model: Model, found: Network) -> None:
    """As the server does where inputs or outputs are left out."""
    filled = model.filled
    if (filled.input or filled.batch_input) and filled.output:
        return
    batches = _batches(found)
    if not batches and filled.max_batch_size:
        return  # it is refused
    if batches and not filled.max_batch_size:
        filled.max_batch_size = DEFAULT_BATCH
    if batches and filled.max_batch_size > 1 and not filled.WhichOneof("scheduling_choice"):
        filled.dynamic_batching.SetInParent()
    if not filled.input and not filled.batch_input:
        _add(filled, "input", found.inputs)
    if not filled.output:
        _add(filled, "output", found.outputs)


def _batches(found: Network) -> bool:
    shapes = [tensor.shape or () for tensor in (*found.inputs, *found.outputs)]
    return all(shape[:1] == (ANY,) for shape in shapes)


def _add(filled: Any, field: str, tensors: tuple[Tensor, ...]) -> None:
    for tensor in sorted(tensors, key=lambda tensor: tensor.name):
        one = getattr(filled, field).add(name=tensor.name)
        if tensor.data_type:
            one.data_type = (
                one.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name[f"TYPE_{tensor.data_type}"].number
            )
        dims = (tensor.shape or ())[1 if filled.max_batch_size else 0 :]
        one.dims.extend(dims or (1,))
        if not dims and filled.max_batch_size:
            one.reshape.SetInParent()


def _tensors(model: Model, context: Context, found: Network) -> Iterator[Finding]:
    filled, given = model.filled, model.config.message
    if any(tensor.kind for tensor in (*found.inputs, *found.outputs)):
        yield from _no_tensors(model, found)
        return
    is_open = not ((given.input or given.batch_input) and given.output)
    if not context.strict and is_open and given.max_batch_size and not _batches(found):
        server = "model does not support batching while non-zero max_batch_size is specified"
        message = f"max_batch_size is {given.max_batch_size}, and not every first axis of the artifact is dynamic"
        yield model.finding(agreement.AUTOFILL, message, "max_batch_size", server=server)
        return
    expected = agreement.expected_inputs(filled, optional=True)
    yield from agreement.inputs(model, found, expected, agreement.given_names(filled))
    yield from agreement.unknown(model, "output", found.outputs)
    for field, tensors in (("input", (*found.inputs, *found.defaults)), ("output", found.outputs)):
        for index, one in enumerate(getattr(filled, field)):
            if tensor := named(tensors, one.name):
                yield from _types(model, field, index, tensor)
                yield from _dims(model, field, index, tensor)


def _no_tensors(model: Model, found: Network) -> Iterator[Finding]:
    for field, tensors in (("input", found.inputs), ("output", found.outputs)):
        for tensor in tensors:
            if tensor.kind:
                message = f"{field} {tensor.name!r} of the artifact is {tensor.kind}"
                yield model.finding(agreement.NO_TENSOR, message, field, server="Unsupported ONNX Type")


def _types(model: Model, field: str, index: int, tensor: Tensor) -> Iterator[Finding]:
    given = agreement.data_type(getattr(model.filled, field)[index])
    # Releases differ in whether they know BF16.
    if tensor.data_type in (None, given) or "BF16" in (tensor.data_type, given):
        return
    server = f"configuration expects datatype TYPE_{given} for {field} '{tensor.name}', model provides TYPE_"
    message = f"{field} {tensor.name!r} is TYPE_{tensor.data_type} in the artifact, and TYPE_{given} in the config"
    yield model.finding(agreement.DATA_TYPE, message, field, index, "data_type", server=server)


def _dims(model: Model, field: str, index: int, tensor: Tensor) -> Iterator[Finding]:
    filled = model.filled
    one, shape = getattr(filled, field)[index], tensor.shape
    scattered = {name for each in filled.batch_output for name in each.target_name}
    if not shape or (field == "input" and one.allow_ragged_batch) or (field == "output" and one.name in scattered):
        return
    if filled.max_batch_size > 0 and shape[0] != ANY:
        yield _batch_axis(model, field, index, tensor)
        return
    full = ((ANY,) if filled.max_batch_size > 0 else ()) + agreement.dims_of(one)
    if not agreement.fits(shape, full):
        yield agreement.dims_differ(model, field, index, shape, full)
    elif field == "output" and shape != full:
        sizes = f"{agreement.shown(shape)} in the artifact, and {agreement.shown(full)} in the config"
        yield model.finding(agreement.OPEN, f"output {one.name!r} is {sizes}", field, index, "dims")


def _batch_axis(model: Model, field: str, index: int, tensor: Tensor) -> Finding:
    shape = agreement.shown(tensor.shape or ())
    server = f"tensor '{tensor.name}': for the model to support batching the shape should have at least 1 dimension"
    message = f"{field} {tensor.name!r} is {shape} in the artifact, and max_batch_size is {model.filled.max_batch_size}"
    return model.finding(agreement.BATCH_AXIS, message, field, index, "dims", server=server)
