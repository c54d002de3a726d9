"""Being asked to end, by SIGINT and SIGTERM: as an exception, so that staged files and servers are cleaned up.

A handler runs between any two steps of the main thread. So this one takes no lock, and what it may raise it raises
once: not while that is on its way through the cleanup, and not in blocks that are `held`. In a destructor or another
callback of the interpreter's, nothing that is raised gets further: it is raised again a moment later, by a timer. What
libraries swallow otherwise, the next signal raises again. A second SIGINT is impatience: `is_urgent` cuts short what
waits for others. Only a program that is there after PATIENCE_SECONDS of that is ended on the spot. What must not be
left behind is, besides, safe from SIGKILL: staging folders, servers and containers.
"""

from __future__ import annotations

import atexit
import functools
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

NUMBERS = (signal.SIGINT, signal.SIGTERM)
PATIENCE_SECONDS = 5.0
POLL_SECONDS = 0.1
AGAIN_SECONDS = 0.01


class Interrupted(KeyboardInterrupt):
    """Raised by SIGINT."""


class Ended(SystemExit):
    """Raised by SIGTERM. `code` is the exit code."""


class Signals:
    """What came, and what is to become of it."""

    def __init__(self) -> None:
        self.number = 0
        """The first signal that came."""
        self.urged_at = 0.0
        self.held = 0
        """Blocks that signals do not interrupt."""
        self.owed = 0
        """A signal that came in one of them."""
        self.swallowed = 0
        """A signal whose exception was raised where the interpreter ignores all."""
        self.patient = False
        """Whether it takes two SIGINT to interrupt."""

    def note(self, number: int, _: FrameType | None) -> None:
        """The handler, of the timer, too."""
        again = number == signal.SIGALRM
        if again:
            number, self.swallowed = self.swallowed, 0
        if not number:
            return  # somebody else's timer
        second = number == signal.SIGINT and self.number != 0 and not again
        if second:
            if self.urged_at and time.monotonic() - self.urged_at > PATIENCE_SECONDS:
                os._exit(128 + number)
            self.urged_at = self.urged_at or time.monotonic()
        self.number = self.number or number
        if self.patient and not second and not again:
            return
        error = sys.exc_info()[1]
        while error is not None:
            if isinstance(error, Interrupted | Ended):
                return  # the cleanup is under way
            error = error.__context__
        if self.held:
            self.owed = number
            return
        self.owed = 0
        if number == signal.SIGINT:
            raise Interrupted
        raise Ended(128 + number)


_SIGNALS = Signals()


def listen(numbers: Sequence[int] = NUMBERS) -> None:
    """From here on, signals raise Interrupted or Ended in the main thread. For the main thread."""
    sys.unraisablehook = functools.partial(_raise_later, sys.unraisablehook)
    for number in (signal.SIGALRM, *numbers):
        signal.signal(number, _SIGNALS.note)
    atexit.register(_ignore)


def _raise_later(otherwise: Callable[[UnraisableHookArgs], object], ignored: UnraisableHookArgs) -> None:
    """The hook of what is raised where nothing can be: one of ours is set to come again, others are told as before."""
    error = ignored.exc_value
    if not isinstance(error, Interrupted | Ended):
        otherwise(ignored)
        return
    _SIGNALS.held += 1  # here, too, nothing that is raised gets further
    _SIGNALS.swallowed = int(signal.SIGINT if isinstance(error, Interrupted) else signal.SIGTERM)
    if signal.getsignal(signal.SIGALRM) == _SIGNALS.note:  # it may be the user's code's just now
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
    _SIGNALS.held -= 1


def _ignore() -> None:
    """While the interpreter ends, a signal could only spoil the exit code."""
    for number in (*NUMBERS, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def came() -> int:
    """The first signal that came; 0 where none did."""
    return _SIGNALS.number


def is_urgent() -> bool:
    """Whether SIGINT came once more."""
    return bool(_SIGNALS.urged_at)


def hold() -> None:
    """From here on until the end of the process, signals interrupt nothing; for its cleanup."""
    _SIGNALS.held += 1


@contextmanager
def held() -> Iterator[None]:
    """A block that is not interrupted; what came meanwhile is raised when it is left."""
    _SIGNALS.held += 1
    try:
        yield
    finally:
        _SIGNALS.held -= 1
        if _SIGNALS.owed and not _SIGNALS.held:
            owed, _SIGNALS.owed = _SIGNALS.owed, 0
            raise Interrupted if owed == signal.SIGINT else Ended(128 + owed)


@contextmanager
def asked() -> Iterator[Signals]:
    """A block that looks at the number itself; a second SIGINT interrupts it all the same. For the main thread."""
    is_program = signal.getsignal(signal.SIGTERM) == _SIGNALS.note
    own = _SIGNALS if is_program else Signals()
    before = {int(number): signal.getsignal(number) for number in NUMBERS}
    own.patient = True
    try:
        for number in before:
            signal.signal(number, own.note)
        yield own
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        own.patient = False


def wait(seconds: float) -> None:
    """Sleep for so long, unless SIGINT comes once more. For blocks that are held."""
    deadline = time.monotonic() + seconds
    while not is_urgent() and (left := deadline - time.monotonic()) > 0:
        select.select([], [], [], min(left, POLL_SECONDS))
