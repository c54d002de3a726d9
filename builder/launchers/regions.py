"""Shared memory that clients told a server of, and did not live to take back: the server would keep it for ever.

A client of this project holds a lock on the file of each of its regions while it lives, which the kernel takes from it
however it ends, and which is seen across containers. The standard library alone: the first process of a container
uses this, too.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

FOLDER = Path("/dev/shm")
PREFIX = "repo-client-held-"
"""As in client/shared_memory.py; others' regions have rules that are not known here."""
NAME = re.compile(rf"{PREFIX}[0-9a-f]+")
LOOK_SECONDS = 5.0
QUIET_SECONDS = 10.0
"""Between a client's death and the end of its region, in which the server is through with its last requests."""

Ask = Callable[[str, "dict[str, Any] | None"], Any]
"""Of the server, by HTTP: a path and perhaps a body -> the answer. Raises OSError, HTTPException."""


class Sweeper:
    """Has the server forget, every now and then, what is left of clients that are dead."""

    def __init__(self, ask: Ask, folder: Path = FOLDER, interval: float = LOOK_SECONDS, quiet: float = QUIET_SECONDS):
        self._ask, self._folder, self._interval, self._quiet = ask, folder, interval, quiet
        self._left: dict[str, float] = {}
        """Since when each of the names was seen without its client."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._attend, daemon=True)
        self._thread.start()

    def leave(self, seconds: float = 5.0) -> None:
        self._ended.set()
        self._thread.join(seconds)

    def _attend(self) -> None:
        while not self._ended.wait(self._interval):
            with suppress(Exception):  # it is busy, ends, or answers oddly; the next look will do
                self.sweep()

    def sweep(self) -> None:
        now, told = time.monotonic(), self._told()
        left = {name for name in told | self._files() if is_left(self._folder / name)}
        self._left = {name: self._left.get(name, now) for name in left}
        for name, since in self._left.items():
            if now - since < self._quiet:
                continue
            if name in told:
                self._ask(f"/v2/systemsharedmemory/region/{name}/unregister", {})
            with suppress(OSError):  # most have been removed before
                (self._folder / name).unlink()

    def _told(self) -> set[str]:
        """Names of clients' regions that the server was told of."""
        regions = self._ask("/v2/systemsharedmemory/status", None) or ()
        names = {region["name"] for region in regions if region.get("key") == f"/{region.get('name')}"}
        return {name for name in names if NAME.fullmatch(name)}

    def _files(self) -> set[str]:
        return {path.name for path in self._folder.glob(f"{PREFIX}*") if NAME.fullmatch(path.name)}


def is_left(path: Path) -> bool:
    """Whether nobody holds the file of a region: whoever made it is dead, or has removed it."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    except OSError:  # somebody else's
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(file)
    return True
