"""What no loaded ensemble asks any more is unloaded; Triton lets each version go once its last request is through.

The index tells that of networks and steps, not of ensembles: those are gone from it while they still answer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from builder.errors import RolloutError, ServerAway
from builder.lifecycle.candidate import Candidate
from builder.lifecycle.loading import Loader
from builder.lifecycle.state import UNLOADING, look
from builder.triton.connection import Connection

if TYPE_CHECKING:
    from builder.types import Report

GRACE_SECONDS = 0.3
"""For requests that have found the old ensemble, and not yet what it asks; from then on they hold that themselves."""
GONE_SECONDS = 30.0
PAUSE_SECONDS = 0.05


def leftovers(candidate: Candidate) -> dict[str, set[int]]:
    """By name, the versions that the server has of this model's networks and steps, and that nobody asks."""
    orphans = candidate.seen.orphans()
    family = candidate.family() if orphans else set()
    return {name: versions for name, versions in orphans.items() if name in family}


def has_bridge(candidate: Candidate) -> bool:
    """Whether its ensemble still has the number of the one before it."""
    return not candidate.is_alone and bool(candidate.seen.versions(candidate.name) - {candidate.version})


def drop_bridge(connection: Connection, candidate: Candidate, seconds: float, warn: Report) -> None:
    """For a candidate that serves, when the requests to the one before it are through."""
    time.sleep(GRACE_SECONDS)
    now = Candidate(candidate.served, look(connection))
    try:
        if has_bridge(now):
            Loader(connection, now, seconds).load(now.name, now.config(now.served.asked), now.version)
    except ServerAway:
        raise
    except RolloutError as error:
        warn(f"{connection.access.url}: {now.name} still has the number of the version before it: {error}")


def retire(connection: Connection, candidate: Candidate, seconds: float, warn: Report) -> bool:
    """Whether it is gone now, which is waited for, but not for longer than so many seconds. Raises ServerAway.

    Whatever else goes wrong is told: the new version serves.
    """
    url, name = connection.access.url, candidate.name
    time.sleep(GRACE_SECONDS)
    now = Candidate(candidate.served, look(connection))
    gone = leftovers(now)
    for part, versions in gone.items():
        try:
            _unload(connection, now, part, versions, seconds)
        except ServerAway:
            raise
        except RolloutError as error:
            warn(f"{url}: {part} was not unloaded: {error}")
    if not _are_gone(connection, {*gone, name}, min(seconds, GONE_SECONDS)):
        warn(f"{url}: {name}: its old version still answers a request, and is gone when that is through")
        return False
    return True


def _are_gone(connection: Connection, names: set[str], seconds: float) -> bool:
    """Until then the server says that it is not ready, though it answers everything."""
    deadline = time.monotonic() + seconds
    while any(row.name in names and row.state == UNLOADING for row in connection.repository_index()):
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE_SECONDS)
    return True


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
