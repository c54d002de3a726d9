"""What the service manager is told, by the protocol of sd_notify(3). Without a NOTIFY_SOCKET, nothing is.

`builder/notify.py` is the same for the server; the two packages share no code.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def ready(status: str) -> None:
    _send("READY=1", f"STATUS={status}")


def stopping(status: str) -> None:
    _send("STOPPING=1", f"STATUS={status}")


def alive() -> None:
    _send("WATCHDOG=1")


def watchdog_seconds() -> float | None:
    """WatchdogSec of the unit; None if there is none, or if it is meant for another process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return max(0, int(os.environ["WATCHDOG_USEC"])) / 1_000_000 or None
    except (KeyError, ValueError):
        return None


def _send(*assignments: str) -> None:
    """To a path, or to an abstract socket, which is written with an @. That nobody listens is no reason to fail."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        connection.sendto("\n".join(assignments).encode(), address)
