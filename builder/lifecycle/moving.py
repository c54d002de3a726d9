"""One model on one server from the version that it has to the one that is published.

Until the switch, which is one load call, everything can be undone, and is; afterwards the old version is still loaded
until its last request is through.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from builder.errors import RolloutError, ServerAway
from builder.lifecycle import trial
from builder.lifecycle.candidate import Candidate
from builder.lifecycle.loading import Loader
from builder.triton.connection import Connection
from builder.util import hints

if TYPE_CHECKING:
    from builder.lifecycle.rollout import RolloutOptions
    from builder.repository.golden import GoldenSet
    from builder.types import Report

PAUSE_SECONDS = 0.2
UNDO_SECONDS = 30.0
HUNG_SECONDS = 3.0
"""For undoing a load that hangs: the server does it when that ends."""
SETTLE_SECONDS = 10.0
Guard = Callable[[], None]


class Move:
    def __init__(
        self, connection: Connection, candidate: Candidate, options: RolloutOptions, report: Report, guard: Guard
    ) -> None:
        """`guard`, called before each load, raises if another rollout took the server, or this one is to end."""
        self._connection, self._candidate = connection, candidate
        self._options, self._report, self._guard = options, report, guard
        self._stage = ""
        self._loader = Loader(connection, candidate, options.timeout)
        self._is_away = False
        self._left: list[str] = []
        """What could not be undone."""

    def run(self) -> None:
        """Raises RolloutError; then the server serves what it served before."""
        try:
            with ExitStack() as undo:
                elsewhere = self._needs_process()
                self._tell_unmeasured(elsewhere)
                if elsewhere:
                    self._try_elsewhere()
                self._load_steps(undo)
                self._load_network(undo)
                if not elsewhere:
                    self._try()
                self._switch(undo)
                undo.pop_all()
        except RolloutError as error:
            raise type(error)(self._told(error)) from None

    def _enter(self, stage: str) -> None:
        self._stage = stage
        self._report(f"{self._connection.access.url}: {self._candidate.name}: {stage}")

    def _told(self, error: RolloutError) -> str:
        candidate, url = self._candidate, self._connection.access.url
        before = f"{candidate.before} serves on" if candidate.before is not None else "none is served"
        left = f" Not undone yet: {'; '.join(self._left)}." if self._left else ""
        if self._is_away or isinstance(error, ServerAway):
            before = "nobody can tell what serves until it is back; then run the same command again"
        back = hints.command(candidate.served.repository, "rollback", candidate.name)
        hint = f" `{back}` makes the former version what is published."
        reason = str(error).rstrip(".")
        reason += "" if reason.endswith(("?", "!")) else "."
        return (
            f"{url}: {candidate.name} was not brought to version {candidate.version}: {self._stage} failed: {reason} "
            f"Of {candidate.name}, {before}.{left}{'' if candidate.before is None else hint}"
        )

    # What is loaded beside.

    def _load_steps(self, undo: ExitStack) -> None:
        for step in self._candidate.served.steps:
            if not self._candidate.has(step):
                self._enter(f"loading its step {step.name}")
                self._guard()
                undo.callback(self._undo, f"unloading {step.name}", self._unload(step.name))
                self._loader.load(step.name, self._candidate.config(step), step.version)

    def _load_network(self, undo: ExitStack) -> None:
        candidate, network = self._candidate, self._candidate.network
        if candidate.is_alone or candidate.has(network):
            return
        self._enter(f"loading its network {network.name}, version {network.version}, beside the old one")
        self._guard()
        undo.callback(self._undo, f"loading {network.name} as it was", self._put_back(network.name))
        self._loader.load(network.name, candidate.beside(), network.version)

    # Before it takes traffic.

    def _needs_process(self) -> bool:
        candidate, network = self._candidate, self._candidate.network
        if self._options.trial == "process" or candidate.is_in_place:
            return True
        if candidate.is_alone:
            return trial.size(candidate) > self._connection.largest_files
        # Whoever asks for the newest of a network has the candidate as soon as it is loaded.
        return not candidate.has(network) and bool(candidate.seen.floating(network.name))

    def _try_elsewhere(self) -> None:
        from builder.lifecycle import elsewhere

        self._enter("the trial in a server of its own")
        self._guard()
        self._goldens()
        elsewhere.hold(self._candidate, self._options)

    def _try(self) -> None:
        self._enter("the trial")
        self._guard()
        goldens = self._goldens()
        with trial.beside(self._connection, self._candidate, self._loader.put) as name:
            if goldens is not None:
                trial.hold(self._ask(name), goldens)
                self._hold_pace(name)

    def _goldens(self) -> GoldenSet | None:
        """None, and a warning, where none were recorded."""
        candidate, goldens = self._candidate, self._candidate.goldens()
        if goldens is None:
            self._warn(
                f"{candidate.name} {candidate.version} was built without golden samples, so that only loading it "
                "proves it; build it again to have them recorded"
            )
        return goldens

    def _warn(self, message: str) -> None:
        (self._options.warn or self._report)(f"{self._connection.access.url}: {message}")

    def _tell_unmeasured(self, elsewhere: bool) -> None:
        if self._options.max_slowdown is not None and (reason := self._unmeasured(elsewhere)):
            name = f"{self._candidate.name} {self._candidate.version}"
            self._warn(f"whether {name} is slower was not measured, so that --max-slowdown refuses nothing: {reason}")

    def _unmeasured(self, elsewhere: bool) -> str:
        """Why the pace cannot be compared; nothing where it can be."""
        if self._candidate.before is None:
            return "no version of it serves to compare it with"
        if elsewhere:
            return "it is tried in a server of its own, and the old version is in another one"
        return "" if self._candidate.goldens() else "it was built without golden samples; build it again"

    def _hold_pace(self, name: str) -> None:
        candidate, most = self._candidate, self._options.max_slowdown
        goldens = candidate.goldens()
        if most is None or goldens is None or candidate.before is None:
            return
        said = trial.hold_pace(self._ask(name), self._ask(candidate.name), goldens, most)
        self._report(f"{self._connection.access.url}: {candidate.name}: {said}")

    def _ask(self, name: str) -> trial.Ask:
        return lambda sample: self._connection.infer(name, sample.inputs, seconds=self._options.timeout)

    # The switch.

    def _switch(self, undo: ExitStack) -> None:
        candidate, asked = self._candidate, self._candidate.served.asked
        self._enter("the switch")
        self._guard()
        undo.callback(self._undo, f"loading {candidate.name} as it was", self._put_back(candidate.name))
        bridge = self._bridge()
        self._loader.load(candidate.name, candidate.config(asked, self._kept() | bridge), candidate.version)
        self._enter("asking the new version")
        self._settle()

    def _bridge(self) -> set[int]:
        """The old number of an ensemble, which its new form has, too, until the old one's requests are through.

        Triton looks the version up once more when it answers a request for classes, and refuses to answer for one that
        is not there any more. Requests that name no version get the highest: going back has no such bridge.
        `retiring` takes it away.
        """
        candidate = self._candidate
        before = candidate.before
        return {before} if not candidate.is_alone and before is not None and before < candidate.version else set()

    def _kept(self) -> set[int]:
        """Versions of a model alone that go on beside the new one."""
        candidate = self._candidate
        pinned = candidate.seen.pins(but=candidate.name).get(candidate.name, set())
        if not candidate.is_alone:
            self._require_unpinned(pinned)
            return set()
        before = candidate.before if self._options.keep_loaded else None
        return pinned | ({before} if before and before < candidate.version else set())

    def _require_unpinned(self, pinned: set[int]) -> None:
        if pinned - {self._candidate.version, self._candidate.before}:
            raise RolloutError(f"other ensembles ask its versions {sorted(pinned)}, and an ensemble has one at a time")

    def _settle(self) -> None:
        """Back when requests that name no version are answered by the new one, rightly."""
        goldens, deadline = self._candidate.goldens(), time.monotonic() + SETTLE_SECONDS
        if goldens is None:
            return
        while (found := self._ask(self._candidate.name)(goldens.samples[0]).version) != self._candidate.version:
            if time.monotonic() > deadline:
                raise RolloutError(f"requests are answered by version {found} after {SETTLE_SECONDS:g} s")
            time.sleep(PAUSE_SECONDS)
        trial.hold(self._ask(self._candidate.name), goldens, 1)

    # What takes loads back.

    def _unload(self, name: str) -> Callable[[float], None]:
        return lambda seconds: self._connection.unload_model(name, seconds)

    def _put_back(self, name: str) -> Callable[[float], None]:
        if name not in self._candidate.seen.configs:
            return self._unload(name)
        return lambda seconds: self._loader.put(name, self._candidate.as_loaded(name), seconds=seconds)

    def _undo(self, what: str, work: Callable[[float], None]) -> None:
        if self._is_away:
            return
        try:
            work(HUNG_SECONDS if self._loader.hangs else UNDO_SECONDS)
        except ServerAway:
            self._is_away = True
        except RolloutError as error:
            self._left.append(f"{what} ({error})")
