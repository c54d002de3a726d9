"""Being asked to end, by SIGINT and SIGTERM.

A handler runs between any two steps of the main thread, also while that holds a lock: one that took a lock, as
`Event.set()` does, would wait for itself for ever, and one that raises would leave a lock locked. So this one only
sets attributes and writes a byte to a pipe, and whoever waits, waits for the pipe. The first signal asks for a clean
end; all later ones change nothing, but that a second SIGINT is impatience: what waits for others is cut short. Only
a program that is still there after PATIENCE_SECONDS of that is ended on the spot.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import TypeVar

from client.errors import Cancelled

NUMBERS = (signal.SIGINT, signal.SIGTERM)
PATIENCE_SECONDS = 5.0
AGAIN_SECONDS = 0.1
Item = TypeVar("Item")


class Stop:
    """Whether the end is asked for, by a signal or by a thread."""

    def __init__(self) -> None:
        self.number = 0
        """The first signal that came."""
        self._is_set = False
        self._urged_at = 0.0
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def listen(self) -> None:
        """From here on, signals are told to this one. For the main thread."""
        # The interpreter's own handler writes a byte, too, so that none comes too late to wake a wait that begins.
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in NUMBERS:
            signal.signal(number, self._note)
        atexit.register(ignore)

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.number:
            if self._urged_at and time.monotonic() - self._urged_at > PATIENCE_SECONDS:
                os._exit(128 + number)
            self._urged_at = self._urged_at or time.monotonic()
        self.number = self.number or number
        self._is_set = True
        try:  # noqa: SIM105  # a handler calls no more than it must
            os.write(self._writer, b"!")
        except BlockingIOError:  # it is full of others
            pass

    def set(self) -> None:
        """By a thread."""
        self._is_set = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"!")

    def is_set(self) -> bool:
        return self._is_set

    @property
    def is_urgent(self) -> bool:
        return bool(self._urged_at)

    def wait(self, seconds: float) -> bool:
        """As that of a threading.Event: whether it is set, by then at the latest."""
        self.readable(None, seconds)
        return self._is_set

    def readable(self, descriptor: int | None, seconds: float | None = None) -> bool:
        """Waits until there is something to read, the time is over, or this is set; whether there is something."""
        poll = select.poll()
        for one in (self._reader, descriptor):
            if one is not None:
                poll.register(one, select.POLLIN)
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self._is_set:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = [one for one, _ in poll.poll(None if left is None else left * 1000)]
            if descriptor in ready:
                return True
            if self._reader in ready:
                self._drain()
            elif not ready and left is not None:
                return False
        return False

    def _drain(self) -> None:
        """Of other signals' bytes, and of those that a forked process got."""
        if not self._is_set:
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 4096)
        if self._is_set:  # meanwhile, and others wait for that byte
            self.set()

    def until(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items; raises Cancelled in place of the next one when this is set."""
        for item in items:
            if self._is_set:
                raise Cancelled("it was stopped")
            yield item
        if self._is_set:
            raise Cancelled("it was stopped")

    @contextlib.contextmanager
    def ends(self, action: Callable[[], object], urgent: bool = False) -> Iterator[None]:
        """Have a thread do it when the end is asked for (`urgent`: twice), again and again until the block is left.

        Again, since what is begun after one cancellation is not ended by that.
        """
        left = Stop()

        def watch() -> None:
            left.readable(None if self._is_set else self._reader)
            while not left.wait(AGAIN_SECONDS):
                if self.is_urgent if urgent else self._is_set:
                    action()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            left.set()
            thread.join()
            left.close()

    def close(self) -> None:
        """For those that do not listen."""
        os.close(self._reader)
        os.close(self._writer)


def ignore() -> None:
    """While the interpreter ends, a signal could only spoil the exit code."""
    signal.set_wakeup_fd(-1)
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)


@functools.cache
def of_process() -> Stop:
    """The one that `listen` was called of, in a command."""
    return Stop()
