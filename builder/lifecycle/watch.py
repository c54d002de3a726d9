"""A server that follows its repository: what is published is rolled out to it, model by model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from builder.errors import BuilderError, ConfigError, RepositoryError, RolloutBusy, ServerAway
from builder.launchers import newer
from builder.launchers.mirror import COSTLY, LOOK_SECONDS, Stamps, stamps
from builder.launchers.newer import Published, Serves
from builder.launchers.snapshot import FOLDER, Listing, listing
from builder.lifecycle.rollout import Result, RolloutOptions, roll_out
from builder.lifecycle.state import calls
from builder.machine import signals
from builder.repository.layout import CONFIG
from builder.repository.lock import FILENAME
from builder.triton import model_config
from builder.triton.connection import Access
from builder.types import Report

LEAVE_SECONDS = 15.0
"""For a rollout that is at work when the server is to stop: what it began is better finished, or undone."""
PAUSE_SECONDS = 1.0
"""To the next try, where another rollout is at work, or the server does not answer."""
BUSY_SECONDS = 15.0
"""For which another rollout may be at work before that is said: one of a command that published passes."""
Tell = Callable[[str], None]
Allow = Callable[[], None]
Has = Callable[[str, int], bool]
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
    allow: Allow | None = None,
    has: Has = lambda *_: True,
) -> Iterator[None]:
    """While it lasts, the server is brought to what the repository publishes, each time that this changes and rests.

    `tell` is told what is served from then on, or why it is not. `serves` tells a model's versions on the server.
    `allow` is asked before each rollout, and raises BuilderError where what is published is not to be served. `has`
    tells whether the server's version of a model is the one that is published under that number.
    """
    options = RolloutOptions(max_slowdown=max_slowdown, warn=tell)

    def bring(name: str) -> list[Result]:
        if allow is not None:
            _require_allowed(allow, name)
        return roll(repository, [access], replace(options, models=(name,)), report)

    watch = Watch(repository, serves, tell, bring, has, beside=() if allow is None else (FILENAME,))
    thread = threading.Thread(target=watch.attend, daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.ended.set()
        deadline = time.monotonic() + LEAVE_SECONDS
        while thread.is_alive() and time.monotonic() < deadline and not signals.is_urgent():
            thread.join(LOOK_SECONDS)


def _require_allowed(allow: Allow, name: str) -> None:
    try:
        allow()
    except BuilderError as error:
        raise type(error)(f"{name} is not brought to what is published: {error}") from None


class Watch:
    def __init__(
        self,
        repository: Path,
        serves: Serves,
        tell: Tell,
        bring: Callable[[str], list[Result]],
        has: Has,
        beside: Sequence[str] = (),
    ) -> None:
        """`bring` rolls one model out, and raises BuilderError.

        What it refused is tried again once the model's config is another one, or a file `beside`.
        """
        self._beside, self._has = beside, has
        self._repository, self._serves, self._tell, self._roll_out = repository, serves, tell, bring
        self._refused: dict[str, Listing] = {}
        """By model, the files with which it was refused: another config, or one that was mended, may do."""
        self._odd: set[str] = set()
        """Those refused for what the repository says of its files, which another lock may mend."""
        self._busy_since: dict[str, float] = {}
        self._known: Published = {}
        """What was published when it was last looked at."""
        self._troubles: set[str] = set()
        self.ended = threading.Event()

    def attend(self) -> None:
        before: tuple[Stamps, list[Listing]] = ({}, [])
        done = before
        while not self.ended.wait(LOOK_SECONDS):
            began = time.monotonic()
            now = stamps(self._repository), [self._state(name, name in self._odd) for name in self._refused]
            self.ended.wait(COSTLY * (time.monotonic() - began) - LOOK_SECONDS)
            if now == before != done and self._followed():
                done = now[0], list(self._refused.values())
            before = now

    def _followed(self) -> bool:
        """Whether all that is published was rolled out, or refused for good."""
        try:
            there = newer.published(self._repository)
            for name in self._known.keys() - there.keys():
                self._tell(f"{name} is gone from the repository; this server serves it until it is started anew")
                self._refused.pop(name, None)
            self._known = there
            brought = [self._is_brought(name, versions) for name, versions in there.items()]
            return all(brought)  # each is tried, whatever became of those before it
        except Exception as error:  # the server goes on with what it has
            self._trouble(str(error))
            self.ended.wait(PAUSE_SECONDS)
            return False

    def _is_brought(self, name: str, versions: tuple[int, ...]) -> bool:
        if self.ended.is_set():
            return False
        # The newest is what requests get; a rollout by hand may have kept the one before loaded.
        if self._is_served(name, versions[-1]):
            self._refused.pop(name, None)
            return True
        if self._refused.get(name) == self._state(name, name in self._odd):
            return True
        # Before it is tried: what changes meanwhile is another state.
        states = {is_odd: self._state(name, is_odd) for is_odd in (False, True)}
        try:
            self._bring(name)
        except (RolloutBusy, ServerAway) as error:
            self._put_off(name, error)
            return False
        except BuilderError as error:
            self._refuse(name, states, error)
        else:
            self._refused.pop(name, None)
        self._busy_since.pop(name, None)
        return True

    def _refuse(self, name: str, states: dict[bool, Listing], error: BuilderError) -> None:
        is_odd = isinstance(error, RepositoryError)
        self._refused[name] = states[is_odd]
        if is_odd:
            self._odd.add(name)
            self._trouble(str(error))
        else:
            self._odd.discard(name)
            self._tell(str(error))

    def _is_served(self, name: str, version: int) -> bool:
        return self._serves(name)[-1:] == (version,) and self._has(name, version)

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

    def _state(self, name: str, is_odd: bool) -> Listing:
        """The files of what is published of it: the config, every version that it needs, and those `beside`."""
        with suppress(OSError, ConfigError):
            config = model_config.read(self._repository / name / CONFIG)
            own = [(name, version) for version in config.version_policy.specific.versions]
            folders = [f"{model}{FOLDER}{version}{FOLDER}" for model, version in (*own, *calls(config))]
            beside = {*self._beside, FILENAME} if is_odd else self._beside
            return listing(self._repository, [f"{name}{FOLDER}{CONFIG}", *beside, *folders])
        return {}

    def _trouble(self, message: str) -> None:
        if message not in self._troubles:
            self._troubles.add(message)
            self._tell(message)
