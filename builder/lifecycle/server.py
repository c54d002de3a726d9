"""One server brought to what is published, model by model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from builder.lifecycle import retiring, trial
from builder.lifecycle.candidate import Candidate
from builder.lifecycle.marker import Marker
from builder.lifecycle.moving import Move
from builder.lifecycle.state import look
from builder.repository.served import Served
from builder.triton.connection import Access, Connection

if TYPE_CHECKING:
    from builder.lifecycle.rollout import Change, Result, RolloutOptions
    from builder.types import Report


def bring(
    models: Sequence[Served],
    access: Access,
    options: RolloutOptions,
    report: Report,
    connect: Callable[[Access], Connection],
    guard: Callable[[], None] = lambda: None,
) -> Result:
    """`guard` raises once what is not done yet is to be left, or undone. Raises RolloutError."""
    from builder.lifecycle.rollout import Result

    connection = connect(access)
    try:
        seen = look(connection)
        marker = Marker(connection, seen, options.timeout, guard)
        todo = [model for model in models if _is_open(Candidate(model, seen), options)]
        if not todo and not marker.is_there():
            return Result(access.url)
        try:
            marker.put()
            _forget_trials(connection, models, marker.found_stale)
            changes = [_moved(connection, model, options, report, marker) for model in todo]
        finally:
            marker.remove()
        return Result(access.url, tuple(change for change in changes if change is not None))
    finally:
        connection.close()


def _is_open(candidate: Candidate, options: RolloutOptions) -> bool:
    """Whether there is something to do, be it what a rollout that was killed left."""
    if not candidate.is_served:
        return True
    return not options.keep_loaded and (retiring.has_bridge(candidate) or bool(retiring.leftovers(candidate)))


def _forget_trials(connection: Connection, models: Sequence[Served], was_killed: bool) -> None:
    """Those of a rollout that was killed."""
    for model in models if was_killed else ():
        if connection.is_model_ready(trial.name_of(model.name)):
            trial.forget(connection, model.name)


def _moved(
    connection: Connection, model: Served, options: RolloutOptions, report: Report, marker: Marker
) -> Change | None:
    from builder.lifecycle.rollout import Change

    started = time.perf_counter()
    marker.hold()
    candidate = Candidate(model, look(connection))  # the models before this one may have changed it
    change = None
    if not candidate.is_served:
        Move(connection, candidate, options, report, marker.hold).run()
        change = Change(model.name, candidate.before, candidate.version, time.perf_counter() - started)
    if not options.keep_loaded:
        report(f"{connection.access.url}: {model.name}: unloading what nobody asks any more")
        warn = options.warn or report
        if retiring.retire(connection, candidate, options.timeout, warn):
            retiring.drop_bridge(connection, candidate, options.timeout, warn)
    return change
