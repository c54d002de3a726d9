"""Processes that tests start. None outlives its test: it is killed first, and waited for afterwards.

`with subprocess.Popen(...)` does it the other way round: when the body has failed, or has spent its time limit, it
waits for a process that nobody stops any more.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

END_S = 30.0
"""Far more than a killed process takes to be gone."""


@contextmanager
def started(command: Sequence[object], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process in a group of its own; what still runs of the group when the block is left is killed.

    Whoever expects the process to end by itself waits for that in the block. `options` are Popen's.
    """
    process = subprocess.Popen(list(map(_argument, command)), start_new_session=True, **options)
    try:
        yield process
    finally:
        end(process)


def _argument(value: object) -> str | bytes:
    return value if isinstance(value, bytes) else str(value)


def end(process: subprocess.Popen[Any]) -> None:
    """Kill the group of a process, which leads one, if the process runs; then wait for it, and close its pipes."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait(END_S)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(BrokenPipeError):  # of what was written and never read
                pipe.close()


def carrying(name: str, value: str) -> set[int]:
    """Processes that were started with the variable, whose value is this, or a path that begins with it."""
    found = set()
    for place in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended, or is another user's
            given = dict(entry.partition("=")[::2] for entry in os.fsdecode(place.read_bytes()).split("\0"))
            if name in given and f"{given[name]}/".startswith(f"{value}/"):
                found.add(int(place.parent.name))
    return {pid for pid in found - {os.getpid()} if is_alive(pid)}


def descendants(pid: int) -> set[int]:
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                found |= {child} | descendants(child)
    return found


def is_alive(pid: int) -> bool:
    """Whether it runs; one that nobody has collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def kill_all(found: Callable[[], set[int]]) -> None:
    """Kill the processes that `found` tells, and those that they start meanwhile, until there are none.

    One that is ending has given its environment back before it is gone, and `found` may tell it no longer.
    """
    deadline = time.monotonic() + END_S
    killed: set[int] = set()
    while (pids := found() | {pid for pid in killed if is_alive(pid)}) and time.monotonic() < deadline:
        killed |= pids
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
