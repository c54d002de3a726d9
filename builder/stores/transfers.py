"""Many files at once, and what is seen of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Protocol, TypeVar

from builder.stores.far import Stopped, Told

AT_ONCE = 8
POLL_S = 0.5
Item = TypeVar("Item")
Act = Callable[[Item, Told], None]


class Watch(Protocol):
    """Who shows where a transfer is."""

    def begin(self, what: str, size: int) -> None:
        """So many bytes are to move."""
        ...

    def moved(self, size: int) -> None:
        """From any thread."""
        ...


class Unwatched:
    def begin(self, what: str, size: int) -> None: ...

    def moved(self, size: int) -> None: ...


def each(items: Iterable[Item], act: Act[Item], watch: Watch) -> None:
    """`act` on all, several at a time; the first error is raised. It tells its second argument of bytes that moved."""
    stop = threading.Event()

    def told(size: int) -> None:
        if stop.is_set():
            raise Stopped
        watch.moved(size)

    def one(item: Item) -> None:
        if not stop.is_set():
            act(item, told)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            _await([pool.submit(one, item) for item in items])
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _await(futures: list[Future[None]]) -> None:
    """Short waits, between which signals are heard."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, POLL_S, FIRST_EXCEPTION)
        for future in done:
            if (error := future.exception(0)) is not None and not isinstance(error, Stopped):
                raise error
