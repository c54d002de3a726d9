"""Implicit state of sequence batching, and what it is at a sequence's beginning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from builder.check.data_files import NOT_OPENED, DataFile, look
from builder.check.findings import DIED, Finding, Level, Rule
from builder.check.model import Context, Model
from builder.check.tensors import ANY, BEYOND_MEMORY, STRING, byte_size, shape, type_name, unsigned

SOURCE = "core: src/sequence_batch_scheduler/sequence_batch_scheduler.cc"
STATE_SOURCE = "core: src/sequence_state.cc"
SEVERAL = Rule(
    "TMR461",
    "initial-state-several",
    Level.ERROR,
    "A state has more than one initial state.",
    "The field is repeated so that it may be absent; a sequence begins in one state.",
    "Leave one initial_state.",
    SOURCE,
)
DATA_TYPE = Rule(
    "TMR462",
    "initial-state-data-type",
    Level.ERROR,
    "An initial state is of another data type than its state.",
    "The server gives its bytes to the model as the state's.",
    "Set the same data_type in both.",
    SOURCE,
)
NO_NAME = Rule(
    "TMR463",
    "initial-state-without-name",
    Level.ERROR,
    "An initial state has no name.",
    "The server wants one, for its own use.",
    "Give the initial_state any name.",
    SOURCE,
)
TWICE = Rule(
    "TMR464",
    "initial-state-twice",
    Level.ERROR,
    "Two states of the same input have an initial state.",
    "An input has one state.",
    "Correct an input_name, or leave one of the states out.",
    SOURCE,
)
RANK = Rule(
    "TMR465",
    "initial-state-rank",
    Level.ERROR,
    "An initial state has another number of dimensions than its state.",
    "The server gives its bytes to the model in the state's shape.",
    "Give the initial_state as many dims as the state has.",
    SOURCE,
)
VARIABLE = Rule(
    "TMR466",
    "initial-state-of-variable-size",
    Level.ERROR,
    "A dimension of an initial state is variable.",
    "The server makes the state's bytes before there is a request that could tell the size.",
    "Give each dimension of the initial_state a size.",
    SOURCE,
)
DIMS = Rule(
    "TMR467",
    "initial-state-dims",
    Level.ERROR,
    "A dimension of an initial state differs from the state's.",
    "The server gives its bytes to the model in the state's shape.",
    "Give both the same dims; a dimension of the state may be -1.",
    SOURCE,
)
NO_DATA = Rule(
    "TMR468",
    "initial-state-without-data",
    Level.ERROR,
    "An initial state does not say what its bytes are.",
    "There is no default.",
    "Set zero_data: true, or data_file to a file in the model's folder initial_state.",
    SOURCE,
)
NO_FILE = Rule(
    "TMR469",
    "initial-state-file-missing",
    Level.ERROR,
    "The file of an initial state is not there.",
    "The server looks in the folder initial_state beside the config.",
    "Put the file there, or correct data_file.",
    SOURCE,
)
NO_REGULAR_FILE = Rule(
    "TMR470",
    "initial-state-file-is-none",
    Level.ERROR,
    "The file of an initial state is a folder or a pipe.",
    "The server reads it as a file, and ends, or waits for ever.",
    "Name a file in data_file.",
    SOURCE,
)
SHORT_FILE = Rule(
    "TMR471",
    "initial-state-file-too-short",
    Level.ERROR,
    "The file of an initial state has fewer bytes than the state.",
    "The server fills the whole tensor from it: the product of the dims, times the bytes of an element.",
    "Write all elements into the file, in row-major order and little-endian.",
    SOURCE,
)
OUTSIDE = Rule(
    "TMR472",
    "initial-state-file-outside",
    Level.WARNING,
    "The file of an initial state is outside of the model's folder.",
    "It is not copied with the model, and a repository in a bucket is fetched a model's folder at a time.",
    "Put the file into the model's folder initial_state.",
    SOURCE,
)
NO_TENSOR = Rule(
    "TMR473",
    "state-without-tensor",
    Level.WARNING,
    "A state has no input_name, no output_name, or no data_type.",
    "The server loads it, and requests fail, or the backend refuses the model.",
    "Name the model's tensors in input_name and output_name, and set data_type.",
    STATE_SOURCE,
)
SAME_TENSOR = Rule(
    "TMR474",
    "state-tensor-twice",
    Level.WARNING,
    "Two states have the same input or the same output.",
    "The server passes over the second one when a sequence begins, with a line in its log.",
    "Give each state its own input_name and output_name.",
    STATE_SOURCE,
)
GROWABLE = Rule(
    "TMR475",
    "growable-state-cannot-grow",
    Level.WARNING,
    "A state is to be in growable memory, which the model cannot have.",
    "Such memory is on a GPU, and of states with one buffer; otherwise no sequence gets a state.",
    "Set use_same_buffer_for_input_output: true and KIND_GPU, or leave use_growable_memory out.",
    STATE_SOURCE,
)
ENORMOUS = Rule(
    "TMR476",
    "initial-state-too-large",
    Level.ERROR,
    "An initial state is larger than any machine's memory, or of a negative size.",
    "The server asks for the memory, gets none, and ends.",
    "Give the initial_state smaller dims, and the state too.",
    SOURCE,
)
RULES = (
    SEVERAL,
    DATA_TYPE,
    NO_NAME,
    TWICE,
    RANK,
    VARIABLE,
    DIMS,
    NO_DATA,
    NO_FILE,
    NO_REGULAR_FILE,
    SHORT_FILE,
    OUTSIDE,
    NO_TENSOR,
    SAME_TENSOR,
    GROWABLE,
    ENORMOUS,
)
FOLDER = "initial_state"
CPU = 2
Path = tuple[str | int, ...]


def check(model: Model, context: Context) -> Iterator[Finding]:
    if not model.filled.HasField("sequence_batching"):
        return
    states = model.filled.sequence_batching.state
    for index, state in enumerate(states):
        path: Path = ("sequence_batching", "state", index)
        yield from _tensors(model, state, states[:index], path)
        if len(state.initial_state) > 1:
            message = f"the state of {state.input_name!r} has {len(state.initial_state)} initial states"
            words = f"must contain exactly one or zero element. Found '{len(state.initial_state)}' elements"
            yield model.finding(SEVERAL, message, *path, FOLDER, server=words)
        elif state.initial_state:
            yield from _initial(model, state, states[:index], (*path, FOLDER, 0))


def _tensors(model: Model, state: Any, earlier: Any, path: Path) -> Iterator[Finding]:
    missing = [field for field in ("input_name", "output_name", "data_type") if not getattr(state, field)]
    if missing:
        yield model.finding(NO_TENSOR, f"a state has no {' and no '.join(missing)}", *path)
    for field in ("input_name", "output_name"):
        name = getattr(state, field)
        if name and any(getattr(other, field) == name for other in earlier):
            yield model.finding(SAME_TENSOR, f"the {field} {name!r} is another state's too", *path, field)
    if state.use_growable_memory and (not state.use_same_buffer_for_input_output or _is_on_cpu(model)):
        message = f"the state of {state.input_name!r} cannot grow"
        yield model.finding(GROWABLE, message, *path, "use_growable_memory")


def _is_on_cpu(model: Model) -> bool:
    groups = model.filled.instance_group
    return bool(groups) and all(group.kind == CPU for group in groups)


def _initial(model: Model, state: Any, earlier: Any, path: Path) -> Iterator[Finding]:
    given, name = state.initial_state[0], state.input_name
    if given.data_type != state.data_type:
        message = f"the initial state of {name!r} is of {type_name(given.data_type)}, not {type_name(state.data_type)}"
        words = f"The data type used for 'initial_state' field of state '{name}' does not match"
        yield model.finding(DATA_TYPE, message, *path, "data_type", server=words)
    if not given.name:
        words = f"Field 'name' must be set when using initial_state for state input '{name}'"
        yield model.finding(NO_NAME, f"the initial state of {name!r} has no name", *path, server=words)
    if any(other.input_name == name and other.initial_state for other in earlier):
        words = f"State input name '{name}' specified more than once"
        yield model.finding(TWICE, f"{name!r} has another initial state", *path, server=words)
    yield from _dims(model, state, given, path)
    yield from _data(model, state, given, path)


def _dims(model: Model, state: Any, given: Any, path: Path) -> Iterator[Finding]:
    name, path = state.input_name, (*path, "dims")
    if len(given.dims) != len(state.dims):
        message = f"the initial state of {name!r} is {shape(given.dims)}, and the state {shape(state.dims)}"
        words = f"for state input '{name}'. {len(given.dims)} != {len(state.dims)}"
        yield model.finding(RANK, message, *path, server=words)
    elif ANY in given.dims:
        words = f"'initial_state' field for state input name '{name}' contains variable dimensions"
        yield model.finding(VARIABLE, f"the initial state of {name!r} is {shape(given.dims)}", *path, server=words)
    for own, due in zip(given.dims, state.dims, strict=False):
        if len(given.dims) == len(state.dims) and ANY not in (own, due) and own != due:
            message = f"the initial state of {name!r} is {shape(given.dims)}, and the state {shape(state.dims)}"
            words = f"'initial_state' dim for input name '{name}' doesn't match 'state' dim description. {own} != {due}"
            yield model.finding(DIMS, message, *path, server=words)
            return


def _data(model: Model, state: Any, given: Any, path: Path) -> Iterator[Finding]:
    kind = given.WhichOneof("state_data")
    if kind is None:
        words = f"initial_state setting expects state'{state.input_name}' to have state_data set"
        message = f"the initial state of {state.input_name!r} has neither zero_data nor data_file"
        yield model.finding(NO_DATA, message, *path, server=words)
    elif kind == "zero_data" and ANY not in given.dims:
        due = unsigned(byte_size(given.data_type, given.dims))
        if due >= BEYOND_MEMORY:
            message = f"the initial state of {state.input_name!r} has {due} bytes"
            yield model.finding(ENORMOUS, message, *path, "dims", server=DIED)
    elif kind == "data_file":
        yield from _file(model, given, look(model.folder, FOLDER, given.data_file), (*path, kind))


def _file(model: Model, given: Any, file: DataFile, path: Path) -> Iterator[Finding]:
    where = f"{FOLDER}/{given.data_file}"
    if file.status is None:
        yield model.finding(NO_FILE, f"there is no {where}", *path, server=NOT_OPENED)
        return
    if file.is_endless:
        words = DIED if file.is_folder else ""
        yield model.finding(NO_REGULAR_FILE, f"{where} is no file with bytes", *path, server=words)
    elif file.is_regular and given.data_type != STRING and ANY not in given.dims:
        yield from _size(model, given, file, path)
    if file.is_outside:
        yield model.finding(OUTSIDE, f"{where} is outside of the model's folder", *path)


def _size(model: Model, given: Any, file: DataFile, path: Path) -> Iterator[Finding]:
    due = unsigned(byte_size(given.data_type, given.dims))
    if file.size < due:
        message = f"{FOLDER}/{given.data_file} has {file.size} bytes of {due}"
        words = f"initial_state setting expects {due} bytes, but the data provided from {given.data_file}only has"
        yield model.finding(SHORT_FILE, message, *path, server=words)
