"""The processes in which a tritonserver runs its Python models, and those that died.

Triton notices that such a process is gone, answers every request of its model with an error from then on, says all the
same that it is ready, and starts no other one. So this looks, and has the model loaded anew.

The standard library alone: the first process of a container uses this, too.
"""

from __future__ import annotations

import collections
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path

PROC = Path("/proc")
SERVER = "tritonserver"
STUB = "triton_python_backend_stub"
LOOK_SECONDS = 0.5
MOST_DEATHS = 3
"""Deaths of one model's workers within DEATHS_SECONDS, after which it is given up: it would die again."""
DEATHS_SECONDS = 300.0
ABSENT_SECONDS = 30.0
"""How long a model that is loaded anew may be without a worker: the old one's end, and the start of a process."""


Running = Mapping[str, Set[int]]
"""Process ids of living workers, by `MODEL/VERSION`."""
Number = Callable[[str], "int | None"]
"""How many workers a version should have, 0 for one that is not served any more; None: look later."""
REVIEW_LOOKS = 10
"""Looks from one question of what is served to the next."""


class NotRevived(Exception):
    """The server did not load the model again; says why."""


def running(server: int, proc: Path = PROC) -> dict[str, set[int]]:
    """The living workers of the tritonserver with that process id."""
    found: dict[str, set[int]] = collections.defaultdict(set)
    for child in children(server, proc):
        if version := _version(proc / str(child)):
            found[version].add(child)
    return dict(found)


def model_of(version: str) -> str:
    return version.rpartition("/")[0] or version


class Workers:
    """The living workers of one tritonserver, look by look.

    The kernel's list of children may lack some while a thread or another child of the process ends, so those that were
    seen before and live are not gone.
    """

    def __init__(self, server: int, proc: Path = PROC) -> None:
        self._server, self._proc = server, proc
        self._seen: dict[str, set[int]] = {}

    def __call__(self) -> Running:
        found = running(self._server, self._proc)
        for version, processes in self._seen.items():
            living = {process for process in processes if _version(self._proc / str(process)) == version}
            found[version] = found.get(version, set()) | living
        self._seen = {version: set(processes) for version, processes in found.items() if processes}
        return dict(self._seen)


def children(process: int, proc: Path = PROC) -> list[int]:
    """Process ids of what the process, any thread of it, started and has not collected yet; see Workers."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has ended
        for task in (proc / str(process) / "task").iterdir():  # the kernel lists children by thread
            with contextlib.suppress(OSError):  # this thread has
                found += map(int, (task / "children").read_text().split())
    return found


def is_server(process: int, proc: Path = PROC) -> bool:
    return _command(proc / str(process))[0].endswith(SERVER)


def _version(process: Path) -> str:
    """Whose worker it is: it was started with the path of a file in the version's folder. Dead ones have none."""
    program, *arguments = _command(process)
    if not program.endswith(STUB) or not arguments:
        return ""
    folder = Path(arguments[0]).parent
    return f"{folder.parent.name}/{folder.name}"


def _command(process: Path) -> list[str]:
    """With its arguments; an empty one of a process that is dead, or between fork and exec."""
    try:
        return (process / "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
    except OSError:
        return [""]


class Watch:
    """Which models have fewer workers than they had.

    What is missing must be so at two looks: between fork and exec a process has its parent's name. While versions come
    and go, as models are rolled out, fewer is right: `number` tells how many there should be. `served` tells the
    versions that have a worker each, whose worker may have died before any look.
    """

    def __init__(
        self,
        look: Callable[[], Running],
        number: Number = lambda _: sys.maxsize,
        served: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._look, self._number, self._served = look, number, served
        self._wanted = {version: len(found) for version, found in look().items()}
        self._missing: set[str] = set()
        self._looks = 0

    def fallen(self) -> set[str]:
        """The names of the models."""
        return {model_of(version) for version in self.dead()}

    def dead(self) -> set[str]:
        """The versions."""
        if self._looks % REVIEW_LOOKS == 0:
            self._wanted = dict.fromkeys(self._served(), 1) | self._wanted
        self._looks += 1
        before, now = self._missing, self._look()
        for version, processes in now.items():
            self._wanted[version] = max(self._wanted.get(version, 0), len(processes))
        self._missing = {version for version in self._wanted if self._lacks(version, now)}
        return {version for version in self._missing & before if self._is_dead(version, now)}

    def _lacks(self, version: str, now: Running) -> bool:
        return len(now.get(version, ())) < self._wanted[version]

    def _is_dead(self, version: str, now: Running) -> bool:
        right = self._number(version)
        if right is None:
            return False
        self._wanted[version] = min(self._wanted[version], right)
        if not right:
            del self._wanted[version]
        return right > 0 and self._lacks(version, now)

    def lacking(self, model: str) -> set[str]:
        """The numbers of the versions that had too few workers at the last look."""
        return {version.rpartition("/")[2] for version in self._missing if model_of(version) == model}

    def of(self, model: str) -> Set[int]:
        return {process for version, found in self._look().items() if model_of(version) == model for process in found}


class Nurse:
    """Has `revive` load each model anew whose worker died; where that does not help, has `give_up` end the server.

    `revive` raises NotRevived. `give_up` is told why, and whether the server is stuck: one whose worker dies while it
    is loaded waits for minutes for that worker, and does nothing else that it is asked.
    """

    def __init__(
        self,
        watch: Watch,
        revive: Callable[[str], None],
        give_up: Callable[[str, bool], None],
        say: Callable[[str], None],
        interval: float = LOOK_SECONDS,
        absent: float = ABSENT_SECONDS,
    ) -> None:
        self._watch, self._revive, self._give_up, self._say = watch, revive, give_up, say
        self._interval, self._absent = interval, absent
        self._deaths: dict[str, list[float]] = collections.defaultdict(list)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._attend, daemon=True)
        self._thread.start()

    @property
    def is_leaving(self) -> bool:
        """Whether a revival has no purpose any more."""
        return self._ended.is_set()

    def leave(self, seconds: float = 5.0) -> None:
        """Look no more. A revival that is going on sees `is_leaving`."""
        self._ended.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(seconds)

    def _attend(self) -> None:
        while not self._ended.wait(self._interval):
            for model in sorted(self._watch.fallen()):
                if not self._ended.is_set() and not self._helped(model):
                    return

    def _helped(self, model: str) -> bool:
        recent = [moment for moment in self._deaths[model] if time.monotonic() - moment < DEATHS_SECONDS]
        self._deaths[model] = [*recent, time.monotonic()]
        if len(recent) >= MOST_DEATHS:
            self._give_up(f"the worker of {model} died {len(recent) + 1} times within {DEATHS_SECONDS:.0f} s", False)
            return False
        self._say(f"the worker of {model} died; the model is loaded anew ...")
        before = self._watch.of(model)
        # A thread: the request hangs for minutes if the new worker dies while the server waits for it.
        loading = threading.Thread(target=self._load, args=(model,), daemon=True)
        loading.start()
        if self._is_over(loading, model, before):
            return True
        self._give_up(f"the worker of {model} died again while the model was loaded", True)
        return False

    def _load(self, model: str) -> None:
        try:
            self._revive(model)
            self._say(f"{model} is served again")
        except (NotRevived, OSError) as error:  # whoever stops the server takes its folders away meanwhile
            if not self.is_leaving:
                self._say(f"{model} could not be loaded again: {error}")

    def _is_over(self, loading: threading.Thread, model: str, before: Set[int]) -> bool:
        """Wait; False when the worker that is new died meanwhile, seen so at two looks, or was gone before any."""
        new: set[int] = set()
        deaths, seen = 0, time.monotonic()
        while loading.is_alive() and not self.is_leaving:
            loading.join(self._interval)
            now = self._watch.of(model)
            new |= now - before  # the old one may still be ending, beside the one that is started
            deaths = deaths + 1 if new and not new & now else 0
            seen = time.monotonic() if now else seen
            if loading.is_alive() and (deaths == 2 or time.monotonic() - seen > self._absent):
                return False
        return True
