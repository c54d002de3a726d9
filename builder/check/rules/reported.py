"""What the server takes without a word and people reported afterwards, because it does something else than is meant."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from builder.check import backends
from builder.check.findings import Finding, Level, Rule
from builder.check.model import Context, Model
from builder.triton import releases

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
LABELS = Rule(
    "TMR944",
    "labels-of-another-number",
    Level.WARNING,
    "A file of labels has another number of lines than its output has values.",
    "The line of a value's index is its label: values beyond the last line have none.",
    "Write one line for each value of the output, in their order.",
    "core: src/label_provider.cc; server issues 2636, 5338",
)
QUEUE = Rule(
    "TMR945",
    "queue-timeout-slows-down",
    Level.WARNING,
    "A queue of the dynamic batcher has a timeout, in a release before 26.08.",
    "Each batch that is put together miscounts the instances that wait, until hardly any gets work.",
    "Serve with 26.08 or later, or let clients give up by themselves.",
    "server issue 8870",
)
TEMPLATE = Rule(
    "TMR946",
    "backend-is-a-placeholder",
    Level.ERROR,
    "The backend's name is a placeholder of a template.",
    "The server looks for a folder of exactly this name among its backends.",
    "Fill in the template, as its own tool does, or write the backend's name.",
    "core: src/backend_model.cc; tensorrtllm_backend issue 526",
)
RULES = (STATES, RAGGED, SHADOWED, LABELS, QUEUE, TEMPLATE)
PLACEHOLDER = "${"
MOST_BYTES = 1024 * 1024
"""Of a file of labels that is read; ImageNet's have 30 KB."""


def check(model: Model, context: Context) -> Iterator[Finding]:
    filled = model.filled
    if len(filled.sequence_batching.state) > 1:
        yield from _states(model)
    if filled.HasField("ensemble_scheduling"):
        yield from _ragged(model)
    elif backends.name_of(model) == "python":
        yield from _shadowed(model)
    if PLACEHOLDER in filled.backend and not backends.place.is_foreign(model):
        server = f"unable to find backend library for backend '{filled.backend}'"
        yield model.finding(TEMPLATE, f"the backend is still {filled.backend}", "backend", server=server)
    if filled.HasField("dynamic_batching") and context.target.is_before(releases.SOUND_BATCHER):
        yield from _queue(model)
    for index, output in enumerate(filled.output):
        if output.label_filename:
            yield from _labels(model, index, output)


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
        copy = model.version_folders[version] / UTILS
        if os.access(copy, os.F_OK):  # False, too, where nobody here may look
            yield model.finding_at(SHADOWED, copy, f"version {version} brings its own {UTILS}")


def _labels(model: Model, index: int, output: Any) -> Iterator[Finding]:
    if not output.dims or min(output.dims) < 1:
        return
    values, lines = math.prod(output.dims), _lines(model.folder / output.label_filename)
    if lines not in (None, values):
        message = f"{output.label_filename} has {lines} lines, and the output {output.name!r} has {values} values"
        yield model.finding(LABELS, message, "output", index, "label_filename")


def _lines(path: Path) -> int | None:
    """As the server counts them; None where it is no text file, or a large one."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > MOST_BYTES:
            return None
        data = path.read_bytes()
    except (OSError, ValueError):
        return None
    return data.count(b"\n") + (not data.endswith(b"\n") and bool(data))


def _queue(model: Model) -> Iterator[Finding]:
    batching = model.filled.dynamic_batching
    if waits := batching.default_queue_policy.default_timeout_microseconds:
        where = ("dynamic_batching", "default_queue_policy", "default_timeout_microseconds")
        yield model.finding(QUEUE, f"requests wait for {waits} microseconds at most", *where)
    for level, policy in batching.priority_queue_policy.items():
        if waits := policy.default_timeout_microseconds:
            message = f"requests of priority {level} wait for {waits} microseconds at most"
            yield model.finding(QUEUE, message, "dynamic_batching", "priority_queue_policy", level)
