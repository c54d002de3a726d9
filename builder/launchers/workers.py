"""The processes in which a tritonserver runs its Python models, and those that died.

Triton notices that such a process is gone, answers every request of its model with an error from then on, says all the
same that it is ready, and starts no other one. So this looks, and has the model loaded anew.

The standard library alone: the first process of a container uses this, too.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable
from pathlib import Path

PROC = Path("/proc")
STUB = "triton_python_backend_stub"
LOOK_SECONDS = 0.5
MOST_DEATHS = 3
"""Of one model, within DEATHS_SECONDS. One that dies more often dies again."""
DEATHS_SECONDS = 300.0


class NotRevived(Exception):
    """The server did not load the model again; says why."""


def running(server: int, proc: Path = PROC) -> collections.Counter[str]:
    """Living workers of the tritonserver with that process id, by model."""
    return collections.Counter(model for child in children(server, proc) if (model := _model(proc / str(child))))


def children(process: int, proc: Path = PROC) -> list[int]:
    """Process ids of what the process, any thread of it, started and has not collected yet."""
    tasks = proc / str(process) / "task"
    try:
        return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
    except OSError:  # the server, or one of its threads, ended meanwhile
        return []


def _model(process: Path) -> str:
    """Whose worker it is: it was started with the path of a file in the model's version folder. Dead ones have none."""
    try:
        command = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    if len(command) < 3 or not command[0].decode(errors="replace").endswith(STUB):
        return ""
    return Path(command[1].decode(errors="surrogateescape")).parent.parent.name


class Watch:
    """Which models have fewer workers than when everything was ready.

    What is missing must be so at two looks: between fork and exec a process has its parent's name.
    """

    def __init__(self, look: Callable[[], collections.Counter[str]]) -> None:
        self._look = look
        self._wanted = look()
        self._missing: set[str] = set()

    def fallen(self) -> set[str]:
        before, now = self._missing, self._look()
        self._missing = {model for model, number in self._wanted.items() if now[model] < number}
        return self._missing & before


class Nurse:
    """Has `revive` load each model anew whose worker died; where that does not help, has `give_up` end the server.

    `revive` raises NotRevived; what it and `give_up` are told is for people.
    """

    def __init__(
        self,
        watch: Watch,
        revive: Callable[[str], None],
        give_up: Callable[[str], None],
        say: Callable[[str], None],
        interval: float = LOOK_SECONDS,
    ) -> None:
        self._watch, self._revive, self._give_up, self._say = watch, revive, give_up, say
        self._interval = interval
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
            self._give_up(f"the worker of {model} died {len(recent) + 1} times within {DEATHS_SECONDS:.0f} s")
            return False
        self._say(f"the worker of {model} died; the model is loaded anew ...")
        try:
            self._revive(model)
            self._say(f"{model} is served again")
        except NotRevived as error:
            self._say(f"{model} could not be loaded again: {error}")
        return True
