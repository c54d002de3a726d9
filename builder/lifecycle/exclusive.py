"""One rollout at a time from a repository to a server, as far as this machine knows. `marker` is for the others."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from builder.errors import RolloutBusy
from builder.lifecycle.marker import born
from builder.repository.staging import staging_root
from builder.triton.connection import Access

PAUSE_SECONDS = 0.25
TRIES = 10
"""To take a file that others take away at the same moment; far more than are needed."""
Done = TypeVar("Done")


def patiently(work: Callable[[], Done], seconds: float, guard: Callable[[], None]) -> Done:
    """Do it once no other rollout is at work. Raises RolloutBusy if that lasts longer than so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return work()
        except RolloutBusy:
            if time.monotonic() >= deadline:
                raise
        guard()
        time.sleep(PAUSE_SECONDS)


@contextmanager
def on_this_machine(repository: Path, access: Access) -> Iterator[None]:
    """Raises RolloutBusy. A repository beside which nothing can be written is left to the server's marker."""
    root = staging_root(repository)
    path = root / f"rollout-{hashlib.sha256(access.address.encode()).hexdigest()[:12]}.lock"
    try:
        root.mkdir(exist_ok=True)
        lock = _taken(path)
    except BlockingIOError:
        raise RolloutBusy(
            f"another rollout of {repository} to {access.url} is at work{_whose(path)}; wait for it, or end it, and "
            "run the same command again"
        ) from None
    except OSError:
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is held: who opened it before takes another one
        os.close(lock)


def _taken(path: Path) -> int:
    """The locked file, which says whose it is. Raises BlockingIOError while another has it."""
    for _ in range(TRIES):
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_there(path, lock):
                os.truncate(lock, 0)
                os.write(lock, f"{os.getpid()} {born(os.getpid())}".encode())
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
    raise BlockingIOError


def _is_there(path: Path, lock: int) -> bool:
    """Whether the open file is still the one that others would open."""
    try:
        return os.path.samestat(path.stat(), os.fstat(lock))
    except FileNotFoundError:
        return False


def _whose(path: Path) -> str:
    """Nothing, if it cannot be told: the process may be in another container."""
    try:
        number, since = path.read_text(encoding="utf-8").split()
        return f" (process {number})" if born(int(number)) == since else ""
    except (OSError, ValueError):
        return ""
