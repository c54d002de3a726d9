"""What a running server needs of whoever started it: models whose worker died are loaded anew, and shared memory of
dead clients is forgotten; at the end, what clients ask is taken away first.

The standard library alone: the first process of a container uses this, too.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from builder.launchers import regions, workers
    from builder.triton import control
else:  # beside them, in a container
    import control
    import regions
    import workers

POLL_SECONDS = 0.1
Unloaded = Callable[[], "set[tuple[str, str]]"]
"""The versions whose last request is through, by model, as the server's log tells."""


@dataclass(frozen=True)
class _Loaded:
    """A model as it was loaded, which may be otherwise than its repository has it by now."""

    config: dict[str, Any]
    versions: frozenset[str]
    ensembles: dict[str, dict[str, Any]]
    """The configs of those that ask it, and go with it."""


class Care:
    """Looks after a server, from when all its models are ready.

    `give_up` is told why, and whether the server is stuck. `is_python`: every backend of the server is one in Python.
    """

    def __init__(
        self,
        server: int | None,
        admin: control.Control,
        give_up: Callable[[str, bool], None],
        say: Callable[[str], None],
        is_python: bool = False,
    ) -> None:
        self._control, self._is_python = admin, is_python
        self._numbers: dict[str, int] = {}
        """Of the workers, by version: they do not change while it is loaded."""
        self._owed: dict[str, _Loaded] = {}
        """Models that were taken away, and are not back."""
        self.was_needed = False
        """Whether a worker died: what is left of it may keep the server from ending in order."""
        self._sweeper = regions.Sweeper(admin.ask)
        self._nurse: workers.Nurse | None = None
        if server is not None:  # /proc tells which process it is
            self._watch = workers.Watch(workers.Workers(server), self._number, self._with_workers)
            self._nurse = workers.Nurse(self._watch, self._revive, give_up, say)

    def leave(self) -> None:
        for helper in (self._nurse, self._sweeper):
            if helper:
                helper.leave()

    def _with_workers(self) -> list[str]:
        """The served versions that run in processes of their own, as far as the server can say."""
        try:
            served = [f"{model}/{version}" for model, found in self._control.ready().items() for version in found]
            return [version for version in served if self._workers_of(version)]
        except control.NO_ANSWER:
            return []

    def _workers_of(self, version: str) -> int:
        if version not in self._numbers:
            config = self._control.config(workers.model_of(version))
            self._numbers[version] = control.workers_of(config, self._is_python)
        return self._numbers[version]

    def _number(self, version: str) -> int | None:
        """As `workers.Number`. A model that could not be brought back is missing as before."""
        model, _, number = version.rpartition("/")
        if (owed := self._owed.get(model)) and number in owed.versions:
            return control.workers_of(owed.config, self._is_python)
        try:
            states = self._control.states().get(model, {})
            if control.LOADING in states.values():
                return None
            return self._workers_of(version) if states.get(number) == control.READY else 0
        except control.NO_ANSWER:
            return None

    def _revive(self, model: str) -> None:
        """Load what died anew; until it is loaded the server says that it is not ready. Raises NotRevived."""
        self.was_needed = True
        try:
            owed = self._owed[model] = self._owed.get(model) or self._as_loaded(model)
            self._take_away(model, owed)
            self._control.load(model, control.STUB_TIMEOUT_SECONDS, control.with_versions(owed.config, owed.versions))
            if not owed.versions <= self._control.ready().get(model, set()):  # what a load answers is not always so
                raise OSError("the server says that it is loaded, and does not serve it")
            del self._owed[model]
            self._bring_back(owed.ensembles)
        except control.NO_ANSWER as error:
            raise workers.NotRevived(str(error)) from None

    def _as_loaded(self, model: str) -> _Loaded:
        configs, ready = self._control.configs(), self._control.ready()
        if model not in configs:
            raise OSError("it is not loaded any more")
        around = {name for name, found in configs.items() if model in control.steps(found)}
        ensembles = {name: control.with_versions(configs[name], ready.get(name, ())) for name in around}
        return _Loaded(configs[model], frozenset(ready.get(model, ())), ensembles)

    def _take_away(self, model: str, owed: _Loaded) -> None:
        """The versions that died: those that did not serve on."""
        if living := owed.versions - self._watch.lacking(model):
            self._control.load(model, control.STUB_TIMEOUT_SECONDS, control.with_versions(owed.config, living))
            return
        self._control.unload(model)
        deadline = time.monotonic() + control.UNLOAD_SECONDS
        while self._control.is_served(model) and time.monotonic() < deadline and not self._is_left():
            time.sleep(POLL_SECONDS)

    def _bring_back(self, ensembles: dict[str, dict[str, Any]]) -> None:
        """Most come back by themselves."""
        for name, config in ensembles.items():
            if not self._is_left() and not self._control.is_served(name):
                self._control.load(name, control.STUB_TIMEOUT_SECONDS, config)

    def _is_left(self) -> bool:
        return self._nurse is not None and self._nurse.is_leaving


def drain(
    admin: control.Control, unloaded: Unloaded, is_over: Callable[[], bool], seconds: float = control.GRACE_SECONDS
) -> None:
    """Take away what clients ask, which lets the requests that are inside it through first.

    On its own the server stops all models at once, and a request between two steps of an ensemble fails. `unloaded`
    tells what was unloaded since the call, and `is_over` whether nobody waits any more. Raises NO_ANSWER's exceptions.
    """
    admin.tell_more()
    names = admin.outermost()
    loaded = admin.loaded()
    for name in names:
        admin.unload(name)
    going = {(name, version) for name in names for version in loaded.get(name, ())}
    deadline = time.monotonic() + seconds
    while not going <= unloaded() and time.monotonic() < deadline and not is_over():
        time.sleep(POLL_SECONDS)


def say(message: str) -> None:
    print(f"build-repo: {message}", file=sys.stderr, flush=True)
