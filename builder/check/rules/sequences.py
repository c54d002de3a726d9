"""Sequence batching: its strategies, and the control tensors that tell a model where a sequence is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from builder.check.findings import Finding, Level, Rule
from builder.check.model import Context, Model
from builder.check.tensors import STRING, type_name

SOURCE = "core: src/model_config_utils.cc"
NO_NAME = Rule(
    "TMR431",
    "control-without-name",
    Level.ERROR,
    "A control tensor of sequence batching has no name.",
    "The model gets the control as an input of that name.",
    "Give the control_input the name of the model's tensor.",
    SOURCE,
)
NAME_TWICE = Rule(
    "TMR432",
    "control-name-twice",
    Level.ERROR,
    "Two control inputs have the same name.",
    "A tensor of a name is given once.",
    "Put the controls of one tensor into one control_input, or correct a name.",
    SOURCE,
)
KIND_TWICE = Rule(
    "TMR433",
    "control-kind-twice",
    Level.ERROR,
    "A kind of control is configured more than once.",
    "There is one tensor for each of start, end, ready and correlation ID.",
    "Leave one of the controls of that kind.",
    SOURCE,
)
NO_VALUES = Rule(
    "TMR434",
    "control-without-values",
    Level.ERROR,
    "A control of sequence batching does not say which values stand for false and true.",
    "The values' field also tells the tensor's data type.",
    "Set int32_false_true, fp32_false_true or bool_false_true to two values, such as [ 0, 1 ].",
    SOURCE,
)
SEVERAL_VALUES = Rule(
    "TMR435",
    "control-of-several-types",
    Level.ERROR,
    "A control of sequence batching has values of more than one type.",
    "The values' field tells the tensor's data type, and a tensor has one.",
    "Leave one of int32_false_true, fp32_false_true and bool_false_true.",
    SOURCE,
)
NOT_TWO = Rule(
    "TMR436",
    "control-values-not-two",
    Level.ERROR,
    "A control of sequence batching has not exactly two values.",
    "One stands for false, and one for true.",
    "Give two values, the one for false first.",
    SOURCE,
)
ID_TYPE = Rule(
    "TMR437",
    "correlation-id-data-type",
    Level.ERROR,
    "The control for the correlation ID is of a data type that no ID has.",
    "IDs are whole numbers of 32 or 64 bits, or strings; a data_type that is left out is no type.",
    "Set data_type to TYPE_UINT64, TYPE_INT64, TYPE_UINT32, TYPE_INT32 or TYPE_STRING.",
    SOURCE,
)
ID_VALUES = Rule(
    "TMR438",
    "correlation-id-with-values",
    Level.ERROR,
    "The control for the correlation ID has values for false and true.",
    "The tensor has the sequence's ID in it, and nothing is false or true of that.",
    "Leave the values out, and set data_type.",
    SOURCE,
)
NOT_POSITIVE = Rule(
    "TMR439",
    "sequence-batch-size-not-positive",
    Level.ERROR,
    "A preferred batch size of sequence batching is zero or negative.",
    "The batcher waits for batches of that size, and there are none.",
    "Give sizes from 1 to max_batch_size, or leave preferred_batch_size out.",
    SOURCE,
)
TOO_LARGE = Rule(
    "TMR440",
    "sequence-batch-size-too-large",
    Level.ERROR,
    "A preferred batch size of sequence batching is larger than max_batch_size.",
    "The batcher never makes a batch that is larger than the model takes.",
    "Make max_batch_size as large, or the preferred size smaller.",
    SOURCE,
)
UTILIZATION = Rule(
    "TMR441",
    "slot-utilization-out-of-range",
    Level.ERROR,
    "The minimum slot utilization is no share of the slots.",
    "It is a number from 0 to 1, not a percentage.",
    "Give minimum_slot_utilization as a fraction, such as 0.5.",
    SOURCE,
)
CONTROL_IS_INPUT = Rule(
    "TMR442",
    "control-is-an-input",
    Level.WARNING,
    "A control tensor is also an input of the model's config.",
    "Clients must then send the tensor with each request, and the server replaces what they send.",
    "Leave the control tensor out of the inputs.",
    "server: docs/user_guide/architecture.md",
)
MANY_SLOTS = Rule(
    "TMR443",
    "many-sequence-slots",
    Level.WARNING,
    "There is room for very many sequences at once.",
    "The server makes a queue for each while it loads the model, for each instance: seconds and gigabytes a million.",
    "Make oldest.max_candidate_sequences, or without it max_batch_size, as large as is used.",
    "core: src/sequence_batch_scheduler/sequence_batch_scheduler.cc",
)
RULES = (
    NO_NAME,
    NAME_TWICE,
    KIND_TWICE,
    NO_VALUES,
    SEVERAL_VALUES,
    NOT_TWO,
    ID_TYPE,
    ID_VALUES,
    NOT_POSITIVE,
    TOO_LARGE,
    UTILIZATION,
    CONTROL_IS_INPUT,
    MANY_SLOTS,
)
MANY = 100_000
HERE = "sequence_batching"
VALUES = ("int32_false_true", "fp32_false_true", "bool_false_true")
CORRELATION_ID = 3
ID_TYPES = frozenset({4, 5, 8, 9, STRING})
"""UINT32, UINT64, INT32, INT64 and STRING."""


def check(model: Model, context: Context) -> Iterator[Finding]:
    # The text, not what is filled in: the server looks at these before a backend fills in a max_batch_size.
    config = model.config.message
    if not config.HasField(HERE):
        return
    batching = config.sequence_batching
    yield from _names(model, batching)
    yield from _controls(model, batching)
    yield from _slots(model, batching)
    if batching.HasField("oldest"):
        yield from _sizes(model, batching.oldest.preferred_batch_size, config.max_batch_size)
    if batching.HasField("direct"):
        yield from _utilization(model, batching.direct.minimum_slot_utilization)


def _names(model: Model, batching: Any) -> Iterator[Finding]:
    seen: set[str] = set()
    inputs = {given.name for given in model.config.message.input}
    for index, given in enumerate(batching.control_input):
        path = (HERE, "control_input", index, "name")
        if not given.name:
            words = "sequence batching control tensor must have a name"
            yield model.finding(NO_NAME, "a control_input has no name", *path, server=words)
        elif given.name in seen:
            words = f"sequence batching control tensor '{given.name}' is specified for multiple control kinds"
            yield model.finding(NAME_TWICE, f"{given.name!r} is configured again", *path, server=words)
        elif given.name in inputs:
            yield model.finding(CONTROL_IS_INPUT, f"the control tensor {given.name!r} is also an input", *path)
        seen.add(given.name)


def _controls(model: Model, batching: Any) -> Iterator[Finding]:
    seen: set[int] = set()
    for index, given in enumerate(batching.control_input):
        for number, control in enumerate(given.control):
            path = (HERE, "control_input", index, "control", number)
            kind = _kind(control)
            if control.kind in seen:
                words = f"sequence batching specifies multiple {kind} tensors"
                yield model.finding(KIND_TWICE, f"{kind} is configured again", *path, "kind", server=words)
            elif kind:
                yield from _values(model, control, kind, path)
            seen.update({control.kind} if kind else ())


def _kind(control: Any) -> str:
    """Its name; empty for what the server does not know, and passes over."""
    known = control.DESCRIPTOR.fields_by_name["kind"].enum_type.values_by_number.get(control.kind)
    return known.name if known else ""


def _values(model: Model, control: Any, kind: str, path: tuple[str | int, ...]) -> Iterator[Finding]:
    given = [field for field in VALUES if getattr(control, field)]
    if control.kind == CORRELATION_ID:
        yield from _correlation_id(model, control, given, path)
    elif not given:
        words = f"'fp32_false_true' or 'bool_false_true' for {kind}"
        yield model.finding(NO_VALUES, f"{kind} has no values", *path, server=words)
    elif len(given) > 1:
        words = f"'fp32_false_true' and 'bool_false_true' for {kind}"
        message = f"{kind} has {' and '.join(given)}"
        yield model.finding(SEVERAL_VALUES, message, *path, given[1], server=words)
    elif (count := len(getattr(control, given[0]))) != 2:
        words = f"sequence batching control '{given[0]}' must have exactly 2 entries for {kind}"
        yield model.finding(NOT_TWO, f"{given[0]} of {kind} has {count} values", *path, given[0], server=words)


def _correlation_id(model: Model, control: Any, given: list[str], path: tuple[str | int, ...]) -> Iterator[Finding]:
    if given:
        words = "'fp32_false_true' or 'bool_false_true' for CONTROL_SEQUENCE_CORRID"
        yield model.finding(ID_VALUES, f"the correlation ID has {given[0]}", *path, given[0], server=words)
    if control.data_type not in ID_TYPES:
        words = "unexpected data type for control CONTROL_SEQUENCE_CORRID"
        message = f"the correlation ID is of {type_name(control.data_type)}"
        yield model.finding(ID_TYPE, message, *path, "data_type", server=words)


def _slots(model: Model, batching: Any) -> Iterator[Finding]:
    is_oldest, path = batching.HasField("oldest"), (HERE, "oldest", "max_candidate_sequences")
    slots = batching.oldest.max_candidate_sequences if is_oldest else model.filled.max_batch_size
    if slots >= MANY:
        yield model.finding(MANY_SLOTS, f"there are {slots} slots", *(path if is_oldest else ("max_batch_size",)))


def _sizes(model: Model, sizes: Any, largest: int) -> Iterator[Finding]:
    for index, size in enumerate(sizes):
        path = (HERE, "oldest", "preferred_batch_size", index)
        if size <= 0:
            words = "sequence batching preferred batch size must be positive"
            yield model.finding(NOT_POSITIVE, f"preferred_batch_size {size} is no size", *path, server=words)
        elif size > max(largest, 0):
            words = "sequence batching preferred batch size must be <= max batch size"
            message = f"preferred_batch_size {size} is larger than max_batch_size {largest}"
            yield model.finding(TOO_LARGE, message, *path, server=words)


def _utilization(model: Model, share: float) -> Iterator[Finding]:
    if share < 0 or share > 1:
        path = (HERE, "direct", "minimum_slot_utilization")
        words = "sequence batching minimum slot utilization must be in range (0.0, 1.0]"
        yield model.finding(UTILIZATION, f"minimum_slot_utilization is {share:g}", *path, server=words)
