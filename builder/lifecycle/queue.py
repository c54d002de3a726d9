"""Servers one after the other, or a few at a time, until the first failure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from builder.errors import RolloutError
from builder.triton.connection import Access

if TYPE_CHECKING:
    from builder.lifecycle.rollout import Result

Bring = Callable[[Access], "Result"]


def one_after_the_other(servers: Sequence[Access], bring: Bring, parallel: int) -> list[Result]:
    """What became of each. Raises the first RolloutError, which then says what became of the others."""
    done: dict[str, Result] = {}
    failed: list[RolloutError] = []
    stop = threading.Event()

    def attempt(access: Access) -> None:
        if stop.is_set():
            return
        try:
            done[access.url] = bring(access)
        except RolloutError as error:
            failed.append(error)
            stop.set()
        except BaseException:
            stop.set()
            raise

    _each(servers, attempt, parallel)
    if failed:
        raise type(failed[0])("\n".join([*map(str, failed), *_others(servers, done, len(failed))]))
    return [done[access.url] for access in servers]


def _each(servers: Sequence[Access], attempt: Callable[[Access], None], parallel: int) -> None:
    if parallel <= 1 or len(servers) <= 1:
        for access in servers:
            attempt(access)
        return
    with ThreadPoolExecutor(parallel) as pool:
        for future in [pool.submit(attempt, access) for access in servers]:
            future.result()  # servers that are at work when one fails come to their own end, which is bounded


def _others(servers: Sequence[Access], done: dict[str, Result], failed: int) -> list[str]:
    """Lines about the servers that did not fail; none for a single server."""
    if len(servers) == 1:
        return []
    reached = ", ".join(done) or "none"
    untouched = len(servers) - len(done) - failed
    return [f"Servers with what is published: {reached}; not touched: {untouched}."]
