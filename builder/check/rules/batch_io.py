"""Batch inputs and outputs: what a backend computes of a batch of ragged inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from builder.check.findings import Finding, Level, Rule
from builder.check.model import Context, Model
from builder.check.tensors import type_name

SOURCE = "core: src/model_config_utils.cc"
SOURCES = Rule(
    "TMR421",
    "batch-tensor-sources",
    Level.ERROR,
    "A batch input or output has not exactly one source input.",
    "Every kind of them is computed of one input.",
    "Name one input in source_input.",
    SOURCE,
)
UNKNOWN_KIND = Rule(
    "TMR422",
    "batch-tensor-kind",
    Level.ERROR,
    "A batch input or output is of a kind that the server does not know.",
    "The kind is given by a number that has no name.",
    "Use one of the names, such as BATCH_ELEMENT_COUNT or BATCH_SCATTER_WITH_INPUT_SHAPE.",
    SOURCE,
)
DATA_TYPE = Rule(
    "TMR423",
    "batch-input-data-type",
    Level.ERROR,
    "A batch input is neither of INT32 nor of FP32.",
    "The backends compute no others.",
    "Set its data_type to TYPE_INT32 or TYPE_FP32.",
    SOURCE,
)
UNKNOWN_SOURCE = Rule(
    "TMR424",
    "batch-tensor-source-unknown",
    Level.ERROR,
    "A batch input or output is computed of what is no input of the model.",
    "The server looks for the name among the model's inputs.",
    "Correct the name in source_input, or add the input.",
    SOURCE,
)
UNKNOWN_TARGET = Rule(
    "TMR425",
    "batch-output-target-unknown",
    Level.ERROR,
    "A batch output is for what is no output of the model.",
    "The server looks for the name among the model's outputs.",
    "Correct the name in target_name, or add the output.",
    SOURCE,
)
TARGET_TWICE = Rule(
    "TMR426",
    "batch-output-target-twice",
    Level.ERROR,
    "A batch output names the same output twice.",
    "An output can be scattered once.",
    "Name each output once in target_name.",
    SOURCE,
)
RULES = (SOURCES, UNKNOWN_KIND, DATA_TYPE, UNKNOWN_SOURCE, UNKNOWN_TARGET, TARGET_TWICE)
ALLOWED = frozenset({8, 11})
"""INT32 and FP32."""


def check(model: Model, context: Context) -> Iterator[Finding]:
    config = model.filled
    for index, given in enumerate(config.batch_input):
        yield from _common(model, given, context, "batch_input", index)
        if given.data_type not in ALLOWED:
            message = f"the batch input is of {type_name(given.data_type)}"
            words = "batch input data type must be TYPE_INT32 or TYPE_FP32"
            yield model.finding(DATA_TYPE, message, "batch_input", index, "data_type", server=words)
    for index, given in enumerate(config.batch_output):
        yield from _common(model, given, context, "batch_output", index)
        yield from _targets(model, given, context, index)


def _common(model: Model, given: Any, context: Context, field: str, index: int) -> Iterator[Finding]:
    what = field.replace("_", " ")
    kind = given.DESCRIPTOR.fields_by_name["kind"].enum_type.values_by_number.get(given.kind)
    if kind is None:
        words = f"unknown {what} kind '"
        yield model.finding(UNKNOWN_KIND, f"{given.kind} is no kind of a {what}", field, index, "kind", server=words)
    elif len(given.source_input) != 1:
        message = f"the {what} of kind {kind.name} has {len(given.source_input)} source inputs"
        words = f"{what} kind '{kind.name}' expects 1 source input, got {len(given.source_input)}"
        yield model.finding(SOURCES, message, field, index, "source_input", server=words)
    for name in _strangers(given.source_input, model.filled.input, context):
        words = f"unknown source input name '{name}'"
        yield model.finding(
            UNKNOWN_SOURCE, f"{name!r} is no input of the model", field, index, "source_input", server=words
        )


def _targets(model: Model, given: Any, context: Context, index: int) -> Iterator[Finding]:
    path = ("batch_output", index, "target_name")
    for name in _strangers(given.target_name, model.filled.output, context):
        words = f"unknown target output name '{name}'"
        yield model.finding(UNKNOWN_TARGET, f"{name!r} is no output of the model", *path, server=words)
    names = list(given.target_name)
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        words = f"target output name '{name}' can only be specified once"
        yield model.finding(TARGET_TWICE, f"{name!r} is named more than once", *path, server=words)


def _strangers(names: Any, tensors: Any, context: Context) -> list[str]:
    """Those that name none of them; none where the backend may yet fill the tensors in."""
    if not tensors and not context.strict:
        return []
    known = {tensor.name for tensor in tensors}
    return [name for name in dict.fromkeys(names) if name not in known]
