"""What the server takes without a word and people reported afterwards, because it does something else than is meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from builder.check import backends
from builder.check.findings import Finding, Level, Rule
from builder.check.model import Context, Model

UTILS = "triton_python_backend_utils.py"
STATES = Rule(
    "TMR941",
    "states-are-swapped",
    Level.WARNING,
    "Sorted by name, the outputs of several states come in another order than their inputs.",
    "The server pairs them by their places in the two sorted lists, so that a state gets another one's contents.",
    "Rename the inputs or the outputs, so that both lists are sorted alike.",
    "core: src/sequence_state.cc; server issue 8586",
)
RAGGED = Rule(
    "TMR942",
    "ragged-input-of-ensemble",
    Level.WARNING,
    "An input of an ensemble has allow_ragged_batch.",
    "The ensemble puts no requests into batches; only its steps do, and each has a field of its own.",
    "Set it at the input of the step, and leave it out here.",
    "server issue 8653",
)
SHADOWED = Rule(
    "TMR943",
    "python-utilities-shadowed",
    Level.WARNING,
    f"A copy of {UTILS} lies beside a Python model.",
    "Python finds it before the server's own, and a copy of another release lacks what the server needs.",
    "Remove the file: the server brings it along.",
    "python_backend: README; server issues 3332, 4743",
)
RULES = (STATES, RAGGED, SHADOWED)


def check(model: Model, context: Context) -> Iterator[Finding]:
    filled = model.filled
    if len(filled.sequence_batching.state) > 1:
        yield from _states(model)
    if filled.HasField("ensemble_scheduling"):
        yield from _ragged(model)
    elif backends.name_of(model) == "python":
        yield from _shadowed(model)


def _states(model: Model) -> Iterator[Finding]:
    states = model.filled.sequence_batching.state
    inputs = sorted({state.input_name for state in states}, key=str.encode)
    by_output: dict[str, Any] = {state.output_name: (index, state) for index, state in enumerate(states)}
    if not len(inputs) == len(by_output) == len(states):
        return  # what is named twice is left out by the server
    for gets, output in zip(inputs, sorted(by_output, key=str.encode), strict=True):
        index, state = by_output[output]
        if gets != state.input_name and not state.use_same_buffer_for_input_output:
            message = f"the state that comes out as {output!r} goes into {gets!r}, not into {state.input_name!r}"
            yield model.finding(STATES, message, "sequence_batching", "state", index)


def _ragged(model: Model) -> Iterator[Finding]:
    for index, given in enumerate(model.filled.input):
        if given.allow_ragged_batch:
            message = f"allow_ragged_batch of the input {given.name!r} does nothing"
            yield model.finding(RAGGED, message, "input", index, "allow_ragged_batch")


def _shadowed(model: Model) -> Iterator[Finding]:
    for version in model.served:
        if (copy := model.version_folders[version] / UTILS).exists():
            yield model.finding_at(SHADOWED, copy, f"version {version} brings its own {UTILS}")
