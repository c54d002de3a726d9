"""Warm-up: the requests that the server makes by itself while it loads a model, and fails the load with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from builder.check.findings import DIED, Finding, Level, Rule
from builder.check.model import Context, Model
from builder.check.tensors import (
    ANY,
    BEYOND_MEMORY,
    INVALID,
    STRING,
    byte_size,
    protocol_name,
    shape,
    type_name,
    unsigned,
)

SOURCE = "core: src/backend_model_instance.cc"
REQUEST_SOURCE = "core: src/infer_request.cc"
VARIABLE = Rule(
    "TMR501",
    "warmup-of-variable-size",
    Level.ERROR,
    "A dimension of a warm-up input is variable.",
    "The server makes the tensor, and must know its size.",
    "Give each dimension of the warm-up input a size.",
    SOURCE,
)
NO_DATA = Rule(
    "TMR502",
    "warmup-without-data",
    Level.ERROR,
    "A warm-up input does not say what its bytes are.",
    "There is no default.",
    "Set zero_data: true, random_data: true, or input_data_file to a file in the model's folder warmup.",
    SOURCE,
)
DATA_TYPE = Rule(
    "TMR503",
    "warmup-data-type",
    Level.ERROR,
    "A warm-up input is of another data type than the model's input.",
    "The server makes a request of the sample, and refuses it as it would a client's.",
    "Set the data_type of the model's input.",
    REQUEST_SOURCE,
)
SHAPE = Rule(
    "TMR504",
    "warmup-shape",
    Level.ERROR,
    "A warm-up input has another shape than the model's input.",
    "The server makes a request of the sample; it puts the batch axis before the dims by itself.",
    "Give the dims of the model's input, without a batch axis, and a size for each -1.",
    REQUEST_SOURCE,
)
MISSING = Rule(
    "TMR505",
    "warmup-input-missing",
    Level.ERROR,
    "A warm-up sample has fewer inputs than the model requires.",
    "The server makes a request of the sample, and refuses it as it would a client's.",
    "Add each input that is not optional to the sample.",
    REQUEST_SOURCE,
)
NEGATIVE = Rule(
    "TMR506",
    "warmup-of-negative-size",
    Level.ERROR,
    "A warm-up input has a negative number of elements.",
    "No dimension but -1 may be negative, and a sample has none of these either.",
    "Give each dimension of the warm-up input a size.",
    SOURCE,
)
ENORMOUS = Rule(
    "TMR507",
    "warmup-too-large",
    Level.ERROR,
    "A warm-up input is larger than any machine's memory.",
    "The server asks for the memory, gets none, and ends.",
    "Give the warm-up input smaller dims.",
    SOURCE,
)
SKIPPED = Rule(
    "TMR521",
    "warmup-without-batch-size",
    Level.WARNING,
    "A warm-up sample has batch size 0.",
    "The server passes over it; that is also what a batch_size that is left out is.",
    "Set batch_size to 1 or more.",
    SOURCE,
)
LARGE_BATCH = Rule(
    "TMR522",
    "warmup-batch-too-large",
    Level.WARNING,
    "The batch size of a warm-up sample is larger than max_batch_size.",
    "The model gets more requests at once than it ever will otherwise, and most backends refuse these.",
    "Set a batch_size of at most max_batch_size, or 1 where the model takes no batches.",
    SOURCE,
)
STRANGER = Rule(
    "TMR523",
    "warmup-input-unknown",
    Level.WARNING,
    "A warm-up sample has an input that the model has not.",
    "The server gives it to the backend as one more tensor, as it does with control tensors.",
    "Correct the name, or leave the input out.",
    SOURCE,
)
NO_CONTROL = Rule(
    "TMR524",
    "warmup-control-missing",
    Level.WARNING,
    "A warm-up sample of a model with sequence batching lacks a control tensor.",
    "Warm-up goes past the scheduler, which adds these to each request; a model that reads one fails without it.",
    "Add the control tensor to the sample's inputs, with dims [ 1 ].",
    "server: docs/user_guide/model_configuration.md",
)
STRING_ID = Rule(
    "TMR526",
    "warmup-with-string-ids",
    Level.WARNING,
    "A model whose sequences have strings for IDs has a warm-up sample.",
    "A sample's request has a number for an ID, and from 25.01 on servers refuse it, and the model with it.",
    "Leave the sample out, or use numbers for correlation IDs.",
    f"{REQUEST_SOURCE}; server issue 8110",
)
RULES = (
    VARIABLE,
    NO_DATA,
    DATA_TYPE,
    SHAPE,
    MISSING,
    NEGATIVE,
    ENORMOUS,
    SKIPPED,
    LARGE_BATCH,
    STRANGER,
    NO_CONTROL,
    STRING_ID,
)
HERE, FILE = "model_warmup", "input_data_file"
FIRST_TO_LOOK = "25.01"
"""No earlier server looks at the ID of a sample's request."""
CORRELATION_ID = 3
Path = tuple[str | int, ...]


def check(model: Model, context: Context) -> Iterator[Finding]:
    for index, sample in samples(model):
        if not sample.batch_size:
            message = f"the sample {sample.name!r} is passed over"
            yield model.finding(SKIPPED, message, HERE, index, "batch_size")
            continue
        yield from _batch(model, sample, index)
        if not context.target.is_before(FIRST_TO_LOOK) and _has_string_id(model):
            yield _string_id(model, sample, index)
        yield from _names(model, sample, index)
        for name in sorted(sample.inputs):
            path = (HERE, index, "inputs", name)
            yield from _input(model, name, sample.inputs[name], path)


def samples(model: Model) -> Iterator[tuple[int, Any]]:
    """Those that the server runs, or would with a batch size: passive instances run none."""
    config = model.filled
    if not config.model_warmup or config.HasField("ensemble_scheduling"):
        return
    groups = config.instance_group
    if not groups or not all(group.passive for group in groups):
        yield from enumerate(config.model_warmup)


def declared(model: Model, name: str) -> Any:
    """The model's input of that name, or None: the first one, as the server has it."""
    return next((given for given in model.filled.input if given.name == name), None)


def _string_id(model: Model, sample: Any, index: int) -> Finding:
    server = f"data-type is 'UINT64', but model '{model.filled.name}' expects 'BYTES'"
    return model.finding(STRING_ID, f"the sample {sample.name!r} has a number for an ID", HERE, index, server=server)


def _batch(model: Model, sample: Any, index: int) -> Iterator[Finding]:
    most = max(model.filled.max_batch_size, 1)
    if sample.batch_size > most:
        message = f"the sample {sample.name!r} has {sample.batch_size} requests at once, and the model takes {most}"
        yield model.finding(LARGE_BATCH, message, HERE, index, "batch_size")


def _names(model: Model, sample: Any, index: int) -> Iterator[Finding]:
    inputs, path = model.filled.input, (HERE, index, "inputs")
    known, required = {given.name for given in inputs}, [given.name for given in inputs if not given.optional]
    count = sum(name in known for name in sample.inputs)
    if count < len(required):
        missing = ", ".join(repr(name) for name in required if name not in sample.inputs) or "one of two of a name"
        words = f"but got {count} inputs for model"
        yield model.finding(MISSING, f"the sample {sample.name!r} lacks {missing}", *path, server=words)
    controls = _controls(model)
    for name in sorted(set(sample.inputs) - known - _others(model) - set(controls)):
        if inputs:
            yield model.finding(STRANGER, f"{name!r} is no input of the model", *path, name)
    for name in sorted(set(controls) - set(sample.inputs)):
        yield model.finding(NO_CONTROL, f"the sample {sample.name!r} lacks the control tensor {name!r}", *path)


def _has_string_id(model: Model) -> bool:
    inputs = model.filled.sequence_batching.control_input
    controls = [control for given in inputs for control in given.control if control.kind == CORRELATION_ID]
    return any(control.data_type == STRING for control in controls)


def _controls(model: Model) -> list[str]:
    return [given.name for given in model.filled.sequence_batching.control_input if given.name]


def _others(model: Model) -> set[str]:
    """Names of tensors that backends get beside the inputs."""
    states = {state.input_name for state in model.filled.sequence_batching.state}
    return states.union(*(given.target_name for given in model.filled.batch_input))


def _input(model: Model, name: str, given: Any, path: Path) -> Iterator[Finding]:
    kind, own = given.WhichOneof("input_data_type"), declared(model, name)
    if kind is None:
        words = f"warmup setting expects input '{name}' to have input_data_type set"
        yield model.finding(NO_DATA, f"the warm-up input {name!r} has no data", *path, server=words)
    if ANY in given.dims:
        words = f"warmup setting expects all variable-size dimensions are specified for input '{name}'"
        message = f"the warm-up input {name!r} is {shape(given.dims)}"
        yield model.finding(VARIABLE, message, *path, "dims", server=words)
    elif kind and (_is_negative(given) or not (own and _differs(own, given))):
        yield from _size(model, name, given, own, path)
    yield from _agreement(model, name, given, own, path) if own else ()


def _agreement(model: Model, name: str, given: Any, own: Any, path: Path) -> Iterator[Finding]:
    if given.data_type != own.data_type and own.data_type != INVALID:
        message = f"the warm-up input {name!r} is of {type_name(given.data_type)}, not {type_name(own.data_type)}"
        words = f"inference input '{name}' data-type is '{protocol_name(given.data_type)}', but model"
        yield model.finding(DATA_TYPE, message, *path, "data_type", server=words)
    if _differs(own, given) and ANY not in given.dims and not _is_negative(given):
        message = f"the warm-up input {name!r} is {shape(given.dims)}, and the model's {shape(own.dims)}"
        words = f"unexpected shape for input '{name}' for model"
        yield model.finding(SHAPE, message, *path, "dims", server=words)


def _differs(own: Any, given: Any) -> bool:
    """Dims that a backend may yet fill in, and those of shape tensors, differ from none."""
    if not own.dims or own.is_shape_tensor:
        return False
    if len(own.dims) != len(given.dims):
        return True
    return any(due not in (ANY, dim) for dim, due in zip(given.dims, own.dims, strict=True))


def _is_negative(given: Any) -> bool:
    """Whether the server looks for as many bytes in a file, before it looks at the shape."""
    is_file = given.WhichOneof("input_data_type") == FILE and given.data_type != STRING
    return is_file and ANY not in given.dims and byte_size(given.data_type, given.dims) < 0


def _size(model: Model, name: str, given: Any, own: Any, path: Path) -> Iterator[Finding]:
    due, is_file = byte_size(given.data_type, given.dims), given.WhichOneof("input_data_type") == FILE
    if due < 0 and given.data_type != STRING and (own or is_file):
        words = f"warmup setting expects {unsigned(due)} bytes" if is_file else f"byte size mismatch for input '{name}'"
        message = f"the warm-up input {name!r} is {shape(given.dims)}"
        yield model.finding(NEGATIVE, message, *path, "dims", server=words)
    elif due >= BEYOND_MEMORY and not is_file:
        message = f"the warm-up input {name!r} has {due} bytes"
        yield model.finding(ENORMOUS, message, *path, "dims", server=DIED)
