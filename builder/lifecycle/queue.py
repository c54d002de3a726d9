"""Servers one after the other, or a few at a time, until the first failure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from builder.errors import RolloutError
from builder.triton.connection import Access

if TYPE_CHECKING:
    from builder.lifecycle.rollout import Result

LOOK_SECONDS = 0.2
"""A signal that comes just as the main thread begins to wait for a lock is not heard before it has that."""
Guard = Callable[[], None]
Bring = Callable[[Access, Guard], "Result"]
"""The guard raises RolloutError once the whole is interrupted: then what is under way is to be undone."""


class Ends:
    """Why no more is begun, or gone on with."""

    def __init__(self) -> None:
        self.failed, self.interrupted = threading.Event(), threading.Event()

    def __bool__(self) -> bool:
        return self.failed.is_set() or self.interrupted.is_set()

    def guard(self) -> None:
        if self.interrupted.is_set():
            raise RolloutError("it was interrupted")


def one_after_the_other(servers: Sequence[Access], bring: Bring, parallel: int) -> list[Result]:
    """What became of each. Raises the first RolloutError, which then says what became of the others."""
    done: dict[str, Result] = {}
    failed: list[RolloutError] = []
    ends = Ends()

    def attempt(access: Access) -> None:
        if ends:
            return
        try:
            done[access.url] = bring(access, ends.guard)
        except RolloutError as error:
            failed.append(error)
            ends.failed.set()
        except BaseException:
            ends.failed.set()
            raise

    _each(servers, attempt, parallel, ends)
    if failed:
        raise type(failed[0])("\n".join([*map(str, failed), *_others(servers, done, len(failed))]))
    return [done[access.url] for access in servers]


def _each(servers: Sequence[Access], attempt: Callable[[Access], None], parallel: int, ends: Ends) -> None:
    if parallel <= 1 or len(servers) <= 1:
        for access in servers:
            attempt(access)
        return
    at_work: list[threading.Event] = []

    def counted(access: Access) -> None:
        ended = threading.Event()
        at_work.append(ended)
        try:
            attempt(access)
        finally:
            ended.set()

    with ThreadPoolExecutor(parallel) as pool:
        try:
            futures = [pool.submit(counted, access) for access in servers]
            # Servers that are at work when one fails come to their own end, which is bounded.
            while wait(futures, LOOK_SECONDS).not_done:
                continue
            for future in futures:
                future.result()
        except (KeyboardInterrupt, SystemExit):  # a signal, which the main thread alone hears of
            ends.interrupted.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for ended in at_work:  # a thread that was just started may be none of the pool's
                ended.wait()
            raise  # once all have come to their end: those at work undo what they began


def _others(servers: Sequence[Access], done: dict[str, Result], failed: int) -> list[str]:
    """Lines about the servers that did not fail; none for a single server."""
    if len(servers) == 1:
        return []
    reached = ", ".join(done) or "none"
    untouched = len(servers) - len(done) - failed
    return [f"Servers with what is published: {reached}; not touched: {untouched}."]
