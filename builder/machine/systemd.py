"""What the service manager is told, by the protocol of sd_notify(3). Without a NOTIFY_SOCKET, nothing is.

Another process's word would not count (NotifyAccess=main), so this is for the process that systemd started.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

EXTENSION_SECONDS = 60
# Models that are not loaded by then do not load; the server itself gives each Python stub five minutes.
LONGEST_START_SECONDS = 3600
STATUS_BYTES = 1000  # `systemctl status` shows a line


def ready(status: str) -> None:
    _send("READY=1", _status(status))


def stopping(status: str) -> None:
    _send("STOPPING=1", _status(status))


@contextmanager
def starting(status: str) -> Iterator[None]:
    """While it lasts, for LONGEST_START_SECONDS at most, TimeoutStartSec is put off: who knows how long models load."""
    _send(_status(status))
    left = iter(range(LONGEST_START_SECONDS * 3 // EXTENSION_SECONDS))

    def extend() -> None:
        if next(left, None) is not None:
            _send(f"EXTEND_TIMEOUT_USEC={EXTENSION_SECONDS * 1_000_000}")

    with _every(EXTENSION_SECONDS / 3, extend):
        yield


@contextmanager
def watched(is_live: Callable[[], bool]) -> Iterator[None]:
    """While it lasts, the watchdog is kept quiet for as long as `is_live` says yes: a hung server is restarted."""
    seconds = watchdog_seconds()
    if seconds is None:
        yield
        return

    def ping() -> None:
        if is_live():
            _send("WATCHDOG=1")

    with _every(seconds / 3, ping):
        yield


def watchdog_seconds() -> float | None:
    """WatchdogSec of the unit; None if there is none, or if it is meant for another process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return max(0, int(os.environ["WATCHDOG_USEC"])) / 1_000_000 or None
    except (KeyError, ValueError):
        return None


@contextmanager
def _every(seconds: float, action: Callable[[], None]) -> Iterator[None]:
    """Call something at intervals, in a thread, until the block is left."""
    ended = threading.Event()

    def repeat() -> None:
        action()
        while not ended.wait(seconds):
            action()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def _status(text: str) -> str:
    line = " ".join(text.split()).encode(errors="replace")[:STATUS_BYTES]
    return f"STATUS={line.decode(errors='ignore')}"


def _send(*assignments: str) -> None:
    """To a path, or to an abstract socket, which is written with an @. That nobody listens is no reason to fail."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        connection.sendto("\n".join(assignments).encode(), address)
