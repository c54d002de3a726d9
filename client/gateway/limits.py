"""How many requests there may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from client.gateway.problems import RETRY_SECONDS, Problem


class Slots:
    """`concurrency` requests run, `queue` more wait, and the rest is refused before its body is read."""

    def __init__(self, concurrency: int, queue: int) -> None:
        self._limit = concurrency + queue
        self._free = asyncio.Semaphore(concurrency)
        self.admitted = 0

    @contextmanager
    def admission(self) -> Iterator[None]:
        """Raises Problem 429."""
        if self.admitted >= self._limit:
            message = f"{self.admitted} requests are under way already; try again"
            raise Problem(429, "TooManyRequests", message, {"Retry-After": str(RETRY_SECONDS), "Connection": "close"})
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1

    @asynccontextmanager
    async def turn(self, seconds: float) -> AsyncIterator[None]:
        """Raises Problem 503 when it does not come."""
        try:
            async with asyncio.timeout(seconds):
                await self._free.acquire()
        except TimeoutError:
            message = f"no turn came within {seconds:g} s"
            raise Problem(503, "Overloaded", message, {"Retry-After": str(RETRY_SECONDS)}) from None
        try:
            yield
        finally:
            self._free.release()
