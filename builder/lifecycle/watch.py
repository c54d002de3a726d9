"""A server that follows its repository: what is published is rolled out to it, model by model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from builder.errors import BuilderError, RepositoryError, RolloutBusy, ServerAway
from builder.launchers import newer
from builder.launchers.mirror import COSTLY, LOOK_SECONDS, Stamps, stamps
from builder.launchers.newer import Published, Serves
from builder.lifecycle.rollout import Result, RolloutOptions, roll_out
from builder.machine import signals
from builder.repository.layout import CONFIG
from builder.triton.connection import Access
from builder.types import Report

LEAVE_SECONDS = 15.0
"""For a rollout that is at work when the server is to stop: what it began is better finished, or undone."""
PAUSE_SECONDS = 1.0
"""To the next try, where another rollout is at work, or the server does not answer."""
BUSY_SECONDS = 15.0
"""For which another rollout may be at work before that is said: one of a command that published passes."""
Tell = Callable[[str], None]
Roll = Callable[[Path, list[Access], RolloutOptions, Report], list[Result]]


@contextmanager
def watched(
    repository: Path,
    access: Access,
    serves: Serves,
    tell: Tell,
    max_slowdown: float | None = None,
    report: Report = lambda _: None,
    roll: Roll = roll_out,
) -> Iterator[None]:
    """While it lasts, the server is brought to what the repository publishes, each time that this changes and rests.

    `tell` is told what is served from then on, or why it is not. `serves` tells a model's versions on the server.
    """
    options = RolloutOptions(max_slowdown=max_slowdown, warn=tell)

    def bring(name: str) -> list[Result]:
        return roll(repository, [access], replace(options, models=(name,)), report)

    watch = Watch(repository, serves, tell, bring)
    thread = threading.Thread(target=watch.attend, daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.ended.set()
        deadline = time.monotonic() + LEAVE_SECONDS
        while thread.is_alive() and time.monotonic() < deadline and not signals.is_urgent():
            thread.join(LOOK_SECONDS)


class Watch:
    def __init__(self, repository: Path, serves: Serves, tell: Tell, bring: Callable[[str], list[Result]]) -> None:
        """`bring` rolls one model out. Raises BuilderError."""
        self._repository, self._serves, self._tell, self._roll_out = repository, serves, tell, bring
        self._refused: dict[str, tuple[int, ...]] = {}
        """By model, the state of its config with which it was refused."""
        self._is_odd = False
        """Whether a model was refused for the repository's files: perhaps they are just coming."""
        self._busy_since: dict[str, float] = {}
        self._known: Published = {}
        """What was published when it was last looked at."""
        self._troubles: set[str] = set()
        self.ended = threading.Event()

    def attend(self) -> None:
        before, done = Stamps(), Stamps()
        while not self.ended.wait(LOOK_SECONDS):
            began = time.monotonic()
            now = self._stamps()
            self.ended.wait(COSTLY * (time.monotonic() - began) - LOOK_SECONDS)
            if now == before != done and self._followed():
                done = now
            before = now

    def _stamps(self) -> Stamps:
        found = stamps(self._repository)
        for path in self._repository.rglob("*") if self._is_odd else ():
            with suppress(OSError):  # it is gone
                told = path.stat()
                found[str(path)] = (told.st_ino, told.st_mtime_ns, told.st_size)
        return found

    def _followed(self) -> bool:
        """Whether all that is published was rolled out, or refused for good."""
        try:
            there = newer.published(self._repository)
            for name in self._known.keys() - there.keys():
                self._tell(f"{name} is gone from the repository; this server serves it until it is started anew")
            self._known, self._is_odd = there, False
            brought = [self._is_brought(name, versions) for name, versions in there.items()]
            return all(brought)  # each is tried, whatever became of those before it
        except Exception as error:  # the server goes on with what it has
            self._trouble(str(error))
            self.ended.wait(PAUSE_SECONDS)
            return False

    def _is_brought(self, name: str, versions: tuple[int, ...]) -> bool:
        if self.ended.is_set():
            return False
        state = self._state(name)
        # The newest is what requests get; a rollout by hand may have kept the one before loaded.
        if self._serves(name)[-1:] == versions[-1:] or self._refused.get(name) == state:
            return True
        try:
            self._bring(name)
        except (RolloutBusy, ServerAway) as error:
            self._put_off(name, error)
            return False
        except RepositoryError as error:
            self._is_odd = True
            self._trouble(str(error))
        except BuilderError as error:
            self._refused[name] = state
            self._tell(str(error))
        self._busy_since.pop(name, None)
        return True

    def _put_off(self, name: str, error: BuilderError) -> None:
        """To the next look."""
        now = time.monotonic()
        since = self._busy_since.setdefault(name, now)
        if not isinstance(error, RolloutBusy) or now - since > BUSY_SECONDS:
            self._trouble(str(error))
        self.ended.wait(PAUSE_SECONDS)

    def _bring(self, name: str) -> None:
        for result in self._roll_out(name):
            for change in result.changes:
                before = "" if change.before is None else f" (was {change.before})"
                self._tell(f"serving {change.model} {change.after}{before}, {change.seconds:.1f} s")

    def _state(self, name: str) -> tuple[int, ...]:
        with suppress(OSError):
            told = (self._repository / name / CONFIG).stat()
            return told.st_ino, told.st_mtime_ns
        return ()

    def _trouble(self, message: str) -> None:
        if message not in self._troubles:
            self._troubles.add(message)
            self._tell(message)
