"""Waiting with an eye on the keyboard."""

from __future__ import annotations

import contextlib
import select
import sys
import time
from collections.abc import Iterator

QUIT = ("q", "Q")


@contextlib.contextmanager
def unbuffered() -> Iterator[None]:
    """Keys arrive as they are pressed, and are not shown."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def wait(seconds: float) -> bool:
    """Whether the user asked to leave meanwhile."""
    if not sys.stdin.isatty():
        time.sleep(seconds)
        return False
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([sys.stdin], [], [], left)[0] and sys.stdin.read(1) in QUIT:
            return True
    return False
