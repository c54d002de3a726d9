"""Waiting with an eye on the keyboard."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator

from client import signals

QUIT = (b"q", b"Q", b"")
"""Or a terminal that is gone."""


@contextlib.contextmanager
def unbuffered() -> Iterator[None]:
    """Keys arrive as they are pressed, and are not shown."""
    if sys.stdin is None or not sys.stdin.isatty():
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
    stop = signals.of_process()
    if sys.stdin is None or not sys.stdin.isatty():
        return stop.wait(seconds)
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and not stop.is_set():
        if stop.readable(sys.stdin.fileno(), left) and os.read(sys.stdin.fileno(), 1) in QUIT:
            return True
    return stop.is_set()
