"""Dynamic batching: preferred sizes, priorities, queue policies, and batching strategies of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from builder.check.data_files import status
from builder.check.findings import Finding, Level, Rule
from builder.check.model import Context, Model

SOURCE = "core: src/model_config_utils.cc"
STRATEGY_SOURCE = "core: src/backend_model.cc"
NOT_POSITIVE = Rule(
    "TMR401",
    "preferred-batch-size-not-positive",
    Level.ERROR,
    "A preferred batch size of dynamic batching is zero or negative.",
    "The batcher waits for batches of that size, and there are none.",
    "Give sizes from 1 to max_batch_size, or leave preferred_batch_size out.",
    SOURCE,
)
TOO_LARGE = Rule(
    "TMR402",
    "preferred-batch-size-too-large",
    Level.ERROR,
    "A preferred batch size of dynamic batching is larger than max_batch_size.",
    "The batcher never makes a batch that is larger than the model takes; without max_batch_size it makes none.",
    "Make max_batch_size as large, or the preferred size smaller.",
    SOURCE,
)
DEFAULT_PRIORITY = Rule(
    "TMR403",
    "default-priority-out-of-range",
    Level.ERROR,
    "The default priority level is none of the priority levels.",
    "Requests without a priority would have no queue; the level counts from 1, and zero is what it is when left out.",
    "Set default_priority_level to a level from 1 to priority_levels.",
    SOURCE,
)
POLICY_PRIORITY = Rule(
    "TMR404",
    "queue-policy-out-of-range",
    Level.ERROR,
    "A queue policy is for a priority that is none of the priority levels.",
    "There is no queue that the policy could be for.",
    "Use keys from 1 to priority_levels in priority_queue_policy.",
    SOURCE,
)
ORDERED_PRIORITIES = Rule(
    "TMR405",
    "ordering-with-priorities",
    Level.ERROR,
    "Responses are to keep the order of the requests, which have several priorities.",
    "A request of a higher priority overtakes others, so that order cannot be kept.",
    "Leave preserve_ordering out, or use one priority level.",
    SOURCE,
)
ORDERED_DELAY = Rule(
    "TMR406",
    "ordering-with-delay",
    Level.ERROR,
    "Responses are to keep the order of the requests, and a queue policy delays those that have waited too long.",
    "A delayed request is overtaken by later ones, so that order cannot be kept.",
    "Use timeout_action REJECT, or leave preserve_ordering out.",
    SOURCE,
)
NO_LEVELS = Rule(
    "TMR407",
    "priorities-without-levels",
    Level.WARNING,
    "Priorities are configured, and there are no priority levels.",
    "Without priority_levels all requests are in one queue, and the server ignores what is said of priorities.",
    "Set priority_levels, or leave the others out.",
    SOURCE,
)
NO_BATCHES = Rule(
    "TMR408",
    "dynamic-batching-without-batches",
    Level.WARNING,
    "Dynamic batching is configured for a model that takes no batches.",
    "With max_batch_size 0 requests are executed one at a time, whatever the batcher is told.",
    "Set max_batch_size, and leave the batch axis out of the dims, or leave dynamic_batching out.",
    "server: docs/user_guide/batcher.md",
)
STRATEGY_WITH_SEQUENCES = Rule(
    "TMR409",
    "batching-strategy-with-sequences",
    Level.ERROR,
    "A batching strategy of one's own is set for a model with sequence batching.",
    "Only the dynamic batcher asks a strategy.",
    "Leave the parameter TRITON_BATCH_STRATEGY_PATH out.",
    STRATEGY_SOURCE,
)
STRATEGY_EMPTY = Rule(
    "TMR410",
    "batching-strategy-empty",
    Level.ERROR,
    "The path of the batching strategy is empty.",
    "The parameter alone makes the server load a library, and an empty path is none.",
    "Set the parameter to the library's path, or leave it out.",
    STRATEGY_SOURCE,
)
STRATEGY_ELSEWHERE = Rule(
    "TMR411",
    "batching-strategy-not-here",
    Level.WARNING,
    "The library of the batching strategy is not on this machine.",
    "The server refuses the model unless the library is at that path on its own machine.",
    "Put the library at that path in the server's image, or as batchstrategy.so into the version's folder.",
    STRATEGY_SOURCE,
)
STRATEGY_NO_LIBRARY = Rule(
    "TMR412",
    "batching-strategy-no-library",
    Level.ERROR,
    "A batchstrategy.so that is no library is in the model's folder.",
    "The server loads whatever has that name in a version's or the model's folder.",
    "Build the library anew, or take the file away.",
    STRATEGY_SOURCE,
)
MANY_LEVELS = Rule(
    "TMR413",
    "many-priority-levels",
    Level.WARNING,
    "There are very many priority levels.",
    "The server makes a queue for each while it loads the model, which takes its time and memory.",
    "Use as few levels as there are kinds of requests.",
    "core: src/scheduler_utils.cc",
)
RULES = (
    NOT_POSITIVE,
    TOO_LARGE,
    DEFAULT_PRIORITY,
    POLICY_PRIORITY,
    ORDERED_PRIORITIES,
    ORDERED_DELAY,
    NO_LEVELS,
    NO_BATCHES,
    STRATEGY_WITH_SEQUENCES,
    STRATEGY_EMPTY,
    STRATEGY_ELSEWHERE,
    STRATEGY_NO_LIBRARY,
    MANY_LEVELS,
)
MANY = 100_000
HERE = "dynamic_batching"
STRATEGY, LIBRARY, ELF = "TRITON_BATCH_STRATEGY_PATH", "batchstrategy.so", b"\x7fELF"
DELAY = 1
COMPLETED = frozenset({"onnxruntime", "tensorrt", "tensorflow", "openvino", "python"})
"""Backends that may find a max_batch_size by themselves."""


def check(model: Model, context: Context) -> Iterator[Finding]:
    # The text, not what is filled in: the server looks at these before a backend fills in a max_batch_size.
    config = model.config.message
    if config.HasField(HERE):
        batching = config.dynamic_batching
        yield from _sizes(model, batching.preferred_batch_size, config.max_batch_size)
        yield from _priorities(model, batching) if batching.priority_levels else _unused_priorities(model, batching)
        yield from _ordering(model, batching)
        yield from _batches(model, context)
    yield from _strategy(model)


def _sizes(model: Model, sizes: Iterable[int], largest: int) -> Iterator[Finding]:
    for index, size in enumerate(sizes):
        path = (HERE, "preferred_batch_size", index)
        if size <= 0:
            words = "dynamic batching preferred size must be positive"
            yield model.finding(NOT_POSITIVE, f"preferred_batch_size {size} is no size", *path, server=words)
        elif size > max(largest, 0):
            words = "dynamic batching preferred size must be <= max batch size"
            message = f"preferred_batch_size {size} is larger than max_batch_size {largest}"
            yield model.finding(TOO_LARGE, message, *path, server=words)


def _priorities(model: Model, batching: Any) -> Iterator[Finding]:
    levels, default = batching.priority_levels, batching.default_priority_level
    if not 1 <= default <= levels:
        message = f"default_priority_level is {default or 'not set'}, and there are {levels} levels"
        words = f"default priority level must be in range [1, {levels}]"
        yield model.finding(DEFAULT_PRIORITY, message, HERE, "default_priority_level", server=words)
    if levels >= MANY:
        yield model.finding(MANY_LEVELS, f"there are {levels} priority levels", HERE, "priority_levels")
    for level in sorted(batching.priority_queue_policy):
        if not 1 <= level <= levels:
            message = f"a queue policy is for priority {level}, and there are {levels} levels"
            words = f"priority queue policy must have priority level in range [1, {levels}]"
            yield model.finding(POLICY_PRIORITY, message, HERE, "priority_queue_policy", level, server=words)


def _unused_priorities(model: Model, batching: Any) -> Iterator[Finding]:
    for field in ("default_priority_level", "priority_queue_policy"):
        if getattr(batching, field):
            yield model.finding(NO_LEVELS, f"{field} is set without priority_levels", HERE, field)


def _ordering(model: Model, batching: Any) -> Iterator[Finding]:
    if not batching.preserve_ordering:
        return
    if batching.priority_levels > 1:
        message = f"preserve_ordering is set beside {batching.priority_levels} priority levels"
        words = "Only one priority level is allowed when 'preserve_ordering' is true"
        yield model.finding(ORDERED_PRIORITIES, message, HERE, "preserve_ordering", server=words)
    if _delays(batching.default_queue_policy):
        yield _delayed(model, "default_queue_policy")
    for level in sorted(batching.priority_queue_policy):
        if _delays(batching.priority_queue_policy[level]):
            yield _delayed(model, "priority_queue_policy", level)


def _delays(policy: Any) -> bool:
    return bool(policy.default_timeout_microseconds and policy.timeout_action == DELAY)


def _delayed(model: Model, *path: str | int) -> Finding:
    message = f"preserve_ordering is set, and {path[0]} has timeout_action DELAY"
    words = "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true"
    return model.finding(ORDERED_DELAY, message, HERE, *path, "timeout_action", server=words)


def _batches(model: Model, context: Context) -> Iterator[Finding]:
    sizes = model.config.message.dynamic_batching.preferred_batch_size
    may_be_filled = not context.strict and model.filled.backend in COMPLETED
    if not model.filled.max_batch_size and not sizes and not may_be_filled:
        yield model.finding(NO_BATCHES, "dynamic_batching is set, and max_batch_size is 0", HERE)


def _strategy(model: Model) -> Iterator[Finding]:
    config = model.config.message
    given = config.parameters[STRATEGY].string_value if STRATEGY in config.parameters else None
    if config.HasField("sequence_batching"):
        if given is not None:
            words = f"{STRATEGY} cannot be specified with sequence batcher"
            yield model.finding(STRATEGY_WITH_SEQUENCES, f"{STRATEGY} is set", "parameters", STRATEGY, server=words)
    elif given is not None:
        yield from _given_strategy(model, given)
    else:
        yield from _found_strategies(model)


def _given_strategy(model: Model, given: str) -> Iterator[Finding]:
    if not given:
        words = "Batching library path not found: "
        yield model.finding(STRATEGY_EMPTY, f"{STRATEGY} is empty", "parameters", STRATEGY, server=words)
    elif not status(Path(given)):
        yield model.finding(STRATEGY_ELSEWHERE, f"there is no {given} here", "parameters", STRATEGY)


def _found_strategies(model: Model) -> Iterator[Finding]:
    if model.filled.HasField("ensemble_scheduling"):
        return
    found = [_first(model, version) for version in model.served]
    for path in dict.fromkeys(path for path in found if path and not _is_library(path)):
        words = "unable to load shared library"
        yield model.finding_at(STRATEGY_NO_LIBRARY, path, f"{LIBRARY} is no library", server=words)


def _first(model: Model, version: int) -> Path | None:
    folder = model.version_folders.get(version)
    places = ([folder / LIBRARY] if folder else []) + [model.folder / LIBRARY]
    return next((path for path in places if status(path)), None)


def _is_library(path: Path) -> bool:
    """True where it cannot be told."""
    if not path.is_file():
        return not path.is_dir()
    try:
        with path.open("rb") as file:
            return file.read(len(ELF)) == ELF
    except OSError:
        return True
