"""Connections that ask nothing yet: how long they may, and how many connections there may be.

Uvicorn waits for a request's headers for ever, and takes connections until the process may open no more files; then
nobody is answered, and asyncio fills the log.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import time
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from client.gateway.settings import Settings

LOG = logging.getLogger("repo-client.gateway")
FILES = resource.RLIMIT_NOFILE
MOST_CONNECTIONS = 4096
OTHER_FILES = 64
"""That the process has open beside connections."""
FILES_A_REQUEST = 3
"""At Triton: a connection, and a region of shared memory."""
FEWEST_CONNECTIONS = 16
ACCEPTED_AT_ONCE = 16
"""So that those beyond the limit can be ended before more are taken."""
TOLD_SECONDS = 60.0
LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Connections:
    """All that are open, and the timers of those whose headers are awaited."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self.seconds = most, seconds
        self._open: set[Any] = set()
        self._waiting: dict[Any, asyncio.TimerHandle | None] = {}
        """Those without a request, who has waited longest first; no timer where the next one has not begun."""
        self._told = float("-inf")

    def opened(self, connection: Any) -> None:
        self._open.add(connection)
        self._waiting[connection] = self._timer(connection)
        if len(self._open) > self._most:
            self.make_room()

    def heard(self, connection: Any) -> None:
        if _is_asked(connection):
            self._forget(connection)
        elif self._waiting.get(connection) is None:
            self._waiting[connection] = self._timer(connection)

    def answered(self, connection: Any) -> None:
        if connection in self._open and not _is_asked(connection):
            self._waiting.setdefault(connection, None)

    def closed(self, connection: Any) -> None:
        self._open.discard(connection)
        self._forget(connection)

    def make_room(self) -> None:
        """At the cost of who has asked nothing for longest."""
        if connection := next(iter(self._waiting), None):
            self.closed(connection)
            connection.transport.abort()
        if time.monotonic() - self._told >= TOLD_SECONDS:
            self._told = time.monotonic()
            LOG.warning("there are too many connections (%d): those that ask nothing are ended", len(self._open))

    def _timer(self, connection: Any) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self.seconds, self._late, connection)

    def _late(self, connection: Any) -> None:
        if connection.has_begun:  # others only connected in advance, as browsers do
            connection.transport.write(LATE)
        connection.transport.close()

    def _forget(self, connection: Any) -> None:
        if timer := self._waiting.pop(connection, None):
            timer.cancel()


def _is_asked(connection: Any) -> bool:
    return connection.cycle is not None and not connection.cycle.response_complete


def protocol(connections: Connections) -> type[asyncio.Protocol]:
    """Uvicorn's, which tells what happens to each connection."""

    class Watched(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        has_begun = False

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            connections.opened(self)

        def data_received(self, data: bytes) -> None:
            self.has_begun = True
            super().data_received(data)
            connections.heard(self)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            connections.answered(self)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            connections.closed(self)

    return Watched


class Loop(asyncio.SelectorEventLoop):
    """TLS is to be agreed on as soon as headers are to arrive, and a lack of files is no news of its own."""

    def __init__(self, connections: Connections) -> None:
        super().__init__()
        self._connections = connections

    async def create_server(self, *arguments: Any, **keywords: Any) -> Any:
        if keywords.get("ssl"):
            keywords["ssl_handshake_timeout"] = self._connections.seconds
        return await super().create_server(*arguments, **keywords)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if getattr(context.get("exception"), "errno", None) in FULL and "accept" in context.get("message", ""):
            self._connections.make_room()
        else:
            super().call_exception_handler(context)


def most_connections(settings: Settings) -> int:
    """As many as the process may have files for, whose limit is raised as far as that is let."""
    wanted = max(MOST_CONNECTIONS, 2 * (settings.concurrency + settings.queue))
    others = OTHER_FILES + FILES_A_REQUEST * settings.concurrency
    return max(FEWEST_CONNECTIONS, min(wanted, _files(wanted + others) - others))


def _files(wanted: int) -> int:
    """How many this process may open, after having asked for as many as are wanted."""
    soft, hard = (wanted if limit == resource.RLIM_INFINITY else limit for limit in resource.getrlimit(FILES))
    if soft >= wanted or hard <= soft:
        return soft
    try:
        resource.setrlimit(FILES, (min(hard, wanted), resource.getrlimit(FILES)[1]))
    except (OSError, ValueError):  # as a hardened service it may not
        return soft
    return min(hard, wanted)
