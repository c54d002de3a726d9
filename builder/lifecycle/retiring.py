"""What no loaded ensemble asks any more is unloaded, once its last request is through."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from builder.errors import RolloutError, ServerAway
from builder.lifecycle.candidate import Candidate
from builder.lifecycle.state import UNLOADING, Seen, look
from builder.triton.connection import Connection

if TYPE_CHECKING:
    from builder.types import Report

PAUSE_SECONDS = 0.05


def leftovers(candidate: Candidate) -> dict[str, set[int]]:
    """By name, the versions that the server has of this model's networks and steps, and that nobody asks."""
    orphans = candidate.seen.orphans()
    family = candidate.family() if orphans else set()
    return {name: versions for name, versions in orphans.items() if name in family}


def retire(connection: Connection, candidate: Candidate, seconds: float, report: Report) -> None:
    """Raises ServerAway. Whatever else goes wrong is told: the new version serves."""
    url = connection.access.url
    report(f"{url}: {candidate.name}: unloading what nobody asks any more")
    seen = _when_idle(connection, candidate.name, seconds)
    if seen is None:
        report(f"{url}: {candidate.name}: its old version still answers a request after {seconds:g} s, so it stays")
        return
    now = Candidate(candidate.served, seen)
    for name, versions in leftovers(now).items():
        try:
            _unload(connection, now, name, versions, seconds)
        except ServerAway:
            raise
        except RolloutError as error:
            report(f"{url}: {name} was not unloaded: {error}")


def _when_idle(connection: Connection, name: str, seconds: float) -> Seen | None:
    """What the server has, as soon as no version of the model is on its way out."""
    deadline = time.monotonic() + seconds
    while any(row.name == name and row.state == UNLOADING for row in connection.repository_index()):
        if time.monotonic() > deadline:
            return None
        time.sleep(PAUSE_SECONDS)
    return look(connection)


def _unload(connection: Connection, candidate: Candidate, name: str, versions: set[int], seconds: float) -> None:
    seen = candidate.seen
    kept = seen.versions(name) - versions
    if not kept:
        connection.unload_model(name, seconds)
        return
    network = candidate.network
    is_own = name == network.name and network.version in kept
    config = candidate.config(network) if is_own else candidate.as_loaded(name)
    if kept != {network.version}:
        config.max_batch_size = max(config.max_batch_size, seen.configs[name].max_batch_size)
    config.version_policy.specific.versions[:] = sorted(kept)
    connection.load_model(name, config, seconds=seconds)
