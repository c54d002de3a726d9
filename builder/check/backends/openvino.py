"""OpenVINO's backend: it knows the artifact's tensors, and converts data types by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from builder.check.backends import agreement, parameters, place, reading_ir
from builder.check.backends.network import ANY, DamagedError, Network, Tensor, named
from builder.check.findings import Finding, Level, Rule
from builder.check.model import Context, Model

DEFAULT_FILE = "model.xml"
WITHIN = ""
DEFAULT_BATCH = 4
SUFFIX = ".xml"
"""Other formats that OpenVINO reads tell nothing here."""
CONVERTED = Rule(
    "TMR826",
    "data-type-converted",
    Level.WARNING,
    "A tensor's data type is another one in the artifact.",
    "OpenVINO's backend converts it without a word, and rounds or cuts off what does not fit.",
    "Write the data type that the artifact has.",
    "openvino_backend: src/openvino.cc ValidateInputs",
)
FIXED = Rule(
    "TMR827",
    "artifact-batch-fixed",
    Level.WARNING,
    "The config batches, and the artifact's first axis has another fixed size.",
    "OpenVINO's backend reshapes it to max_batch_size, which not every network stands.",
    "Save it with a dynamic first axis, or set max_batch_size to that size.",
    "openvino_backend: src/openvino.cc ValidateInputs",
)
RULES: tuple[Rule, ...] = (CONVERTED, FIXED)


def _count(key: str) -> parameters.Reads:
    def said(value: str) -> str:
        is_number = not value or (value.isascii() and value.isdigit())
        return "" if is_number else f"expected the parameter '{key}' to be a non-negative number"

    return said


def _one_of(key: str, words: tuple[str, ...], numbers: bool, server: str) -> parameters.Reads:
    def said(value: str) -> str:
        is_number = numbers and value.isascii() and value.isdigit()
        is_taken = not value or value.lower() in words or is_number
        return "" if is_taken else f"expected the parameter '{key}' to be {server}"

    return said


HINTS = ("latency", "throughput", "cumulative_throughput")
PARAMETERS: dict[str, parameters.Reads] = {
    "INFERENCE_NUM_THREADS": _count("INFERENCE_NUM_THREADS"),
    "COMPILATION_NUM_THREADS": _count("COMPILATION_NUM_THREADS"),
    "HINT_BF16": _one_of("HINT_BF16", ("yes",), False, "YES"),
    "NUM_STREAMS": _one_of("NUM_STREAMS", ("auto", "numa"), True, "either AUTO/NUMA/<int_value>"),
    "PERFORMANCE_HINT": _one_of("PERFORMANCE_HINT", HINTS, False, "LATENCY/THROUGHPUT/CUMULATIVE_THROUGHPUT"),
}


def demands(model: Model, context: Context) -> Iterator[Finding]:
    yield from place.check(model, DEFAULT_FILE)
    yield from parameters.check(model, PARAMETERS)
    yield from parameters.no_optional(model)


def read(path: Path) -> Network | None:
    return reading_ir.network(path) if path.suffix == SUFFIX else None


def artifacts(model: Model, context: Context) -> Iterator[Finding]:
    for artifact in place.artifacts(model, DEFAULT_FILE):
        why = place.foreign(artifact.path)
        try:
            found = None if why else read(artifact.path)
        except DamagedError as error:
            yield place.damaged(model, artifact.path, str(error))
            continue
        if why:
            yield place.damaged(model, artifact.path, f"it {why}")
        if found:
            yield from agreement.weights(model, found, artifact)
            yield from _tensors(model, found)


def fill(model: Model, found: Network) -> None:
    """As the server does: each list that is empty, and batching where the artifact's layout names it."""
    filled = model.filled
    if all(tensor.has_batch for tensor in (*found.inputs, *found.outputs)):
        filled.max_batch_size = filled.max_batch_size or DEFAULT_BATCH
        if filled.max_batch_size > 1 and not filled.WhichOneof("scheduling_choice"):
            filled.dynamic_batching.SetInParent()
    for field, tensors in (("input", found.inputs), ("output", found.outputs)):
        if not getattr(filled, field):
            _add(filled, field, tensors)


def _add(filled: Any, field: str, tensors: tuple[Tensor, ...]) -> None:
    for tensor in tensors:
        one = getattr(filled, field).add(name=tensor.name)
        if tensor.data_type:
            kinds = one.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name
            one.data_type = kinds[f"TYPE_{tensor.data_type}"].number
        dims = (tensor.shape or ())[1 if filled.max_batch_size else 0 :]
        one.dims.extend(dims if ANY not in (tensor.shape or ()) else (ANY,) * len(dims))


def _tensors(model: Model, found: Network) -> Iterator[Finding]:
    filled = model.filled
    yield from agreement.inputs(model, found, len(filled.input), (each.name for each in filled.input))
    yield from agreement.unknown(model, "output", found.outputs)
    reshaped = filled.parameters["RESHAPE_IO_LAYERS"].string_value if "RESHAPE_IO_LAYERS" in filled.parameters else ""
    for field, tensors in (("input", found.inputs), ("output", found.outputs)):
        for index, one in enumerate(getattr(filled, field)):
            if tensor := named(tensors, one.name):
                yield from _types(model, field, index, tensor)
                if reshaped.lower() != "yes" and getattr(model.config.message, field):
                    yield from _dims(model, field, index, tensor)


def _types(model: Model, field: str, index: int, tensor: Tensor) -> Iterator[Finding]:
    given = agreement.data_type(getattr(model.filled, field)[index])
    if tensor.data_type not in (None, given):
        message = f"{field} {tensor.name!r} is TYPE_{tensor.data_type} in the artifact, and TYPE_{given} in the config"
        yield model.finding(CONVERTED, message, field, index, "data_type")


def _dims(model: Model, field: str, index: int, tensor: Tensor) -> Iterator[Finding]:
    """Of the first axis under max_batch_size the backend makes its own."""
    shape, batched = tensor.shape, model.filled.max_batch_size > 0
    if not shape:
        return
    full = ((shape[0],) if batched else ()) + agreement.dims_of(getattr(model.filled, field)[index])
    if not _fits(shape, full, field):
        yield agreement.dims_differ(model, field, index, shape, ((ANY,) if batched else ()) + full[batched:])
    elif batched and field == "input" and shape[0] not in (ANY, model.filled.max_batch_size):
        sizes = f"is {agreement.shown(shape)} in the artifact, and max_batch_size is {model.filled.max_batch_size}"
        yield model.finding(FIXED, f"input {tensor.name!r} {sizes}", field, index, "dims")


def _fits(shape: tuple[int, ...], full: tuple[int, ...], field: str) -> bool:
    """An input may be left open in the config, an output not."""
    free = (ANY,) if field == "input" else ()
    pairs = zip(shape, full, strict=False)
    return len(shape) == len(full) and all(mine in (ANY, theirs) or theirs in free for mine, theirs in pairs)
