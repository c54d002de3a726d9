"""How models are loaded so that nothing that serves is lost by it.

Triton, when it loads an ensemble, looks at the files of every model that the ensemble asks. One whose folder has
changed since it was loaded it loads anew as its own config.pbtxt says: with the newest version alone, however it was
loaded before, and the ensembles that ask an older version are gone. So each network is loaded once more just before,
as it is, which costs nothing and has the server take note of the files; no build publishes between the two.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from filelock import Timeout

from builder.errors import RolloutError
from builder.lifecycle.candidate import Candidate
from builder.lifecycle.state import calls
from builder.repository import layout
from builder.repository.staging import locked
from builder.triton.connection import NOT_SEEN, Connection, refusal

SIGHT_SECONDS = 10.0
"""Within which a server sees files that were just published: its launcher brings them there."""
PAUSE_SECONDS = 1.0
"""Triton prints errors for each load of what it does not see."""
LOCK_SECONDS = 10.0
"""Far more than a build takes to publish a model."""
HUNG = "was not loaded within"


class Loader:
    """Loads on one server what belongs to one model."""

    def __init__(self, connection: Connection, candidate: Candidate, seconds: float) -> None:
        self._connection, self._candidate, self._seconds = connection, candidate, seconds
        loaded = [name for name in candidate.seen.configs if candidate.seen.role(name) == layout.NETWORK]
        self._networks = {name: candidate.as_loaded(name) for name in loaded}
        """By name, the config with which the server has it."""
        self.hangs = False
        """Whether the last load did not come to an end."""

    def load(self, name: str, config: Any, version: int) -> None:
        """Back when that version answers. Raises RolloutError."""
        deadline = time.monotonic() + SIGHT_SECONDS
        while not self._is_loaded(name, config, version):
            if time.monotonic() > deadline:
                raise RolloutError(
                    f"the server does not see version {version} of {name}: does its repository, a copy or an image "
                    "perhaps, have what is published? If its launcher refused the files, serve's own output says why"
                )
            time.sleep(PAUSE_SECONDS)

    def put(self, name: str, config: Any, files: Mapping[str, bytes] | None = None, seconds: float = 0) -> None:
        """One load call, whatever comes of it. Raises RolloutError."""
        self.hangs = True
        try:
            with self._nothing_published(config):
                self._refresh(config)
                self._connection.load_model(name, config, files, seconds or self._seconds)
        except RolloutError as error:
            self.hangs = HUNG in str(error)
            raise
        self.hangs = False
        if config.parameters[layout.ROLE].string_value == layout.NETWORK:
            self._networks[name] = config

    def _is_loaded(self, name: str, config: Any, version: int) -> bool:
        """False: the server does not see its files, or not yet."""
        try:
            self.put(name, config)
        except RolloutError as error:
            if NOT_SEEN in str(error):
                return False
            raise
        if self._connection.is_model_ready(name, version):
            return True
        rows = [row for row in self._connection.repository_index() if (row.name, row.version) == (name, version)]
        if reason := next((row.reason for row in rows if row.reason not in ("", "unloaded")), ""):
            raise refusal(self._connection.access, reason)
        return False

    def _refresh(self, ensemble: Any) -> None:
        for name, _ in calls(ensemble):
            if name in self._networks:
                self._connection.load_model(name, self._networks[name], seconds=self._seconds)

    @contextmanager
    def _nothing_published(self, ensemble: Any) -> Iterator[None]:
        """Where the repository's lock cannot be had, as beside a folder that others own, it goes without."""
        lock = locked(self._candidate.served.repository)
        if not calls(ensemble):
            yield
            return
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except (OSError, Timeout):
            yield
            return
        try:
            yield
        finally:
            lock.release()
