"""Connections that ask nothing yet, or read nothing: how long they may, and how many connections there may be.

Uvicorn waits for ever for a request's headers and for its answers to be read, and takes connections until the process
may open no more files; then nobody is answered, and asyncio fills the log.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import time
from itertools import islice
from typing import Any

from client.gateway.protocol import LATE, Part
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
FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Connections:
    """All that are open, and the timers of those who let the gateway wait: for headers, or to be read."""

    def __init__(self, most: int, header_seconds: float, body_seconds: float) -> None:
        self._most, self.header_seconds, self._body_seconds = most, header_seconds, body_seconds
        self._open: set[Any] = set()
        self._waiting: dict[Any, tuple[Part, asyncio.TimerHandle | None]] = {}
        """Those without a request, who has waited longest first; no timer where the next one has not begun."""
        self._unread: dict[Any, asyncio.TimerHandle] = {}
        """Those who leave unread what was written to them, who has done so for longest first."""
        self._told = float("-inf")

    def opened(self, connection: Any) -> None:
        self._open.add(connection)
        self._time(connection)
        if len(self._open) > self._most:
            self.make_room()

    def heard(self, connection: Any) -> None:
        if connection.is_asked:
            self._forget(connection)
        else:
            self._time(connection)
        self.written(connection)

    def answered(self, connection: Any) -> None:
        if connection in self._open and not connection.is_asked:
            if connection.part is Part.NONE:
                self._waiting.setdefault(connection, (Part.NONE, None))
            else:
                self._time(connection)
        self.written(connection)

    def written(self, connection: Any) -> None:
        """Look whether there is something that the peer has not taken."""
        if connection not in self._open or not connection.transport.get_write_buffer_size():
            self._forget_unread(connection)
        elif connection not in self._unread:
            timer = asyncio.get_running_loop().call_later(self._body_seconds, self._end_unread, connection)
            self._unread[connection] = timer

    def taken(self, connection: Any) -> None:
        """The peer has read, though maybe not all."""
        self._forget_unread(connection)
        self.written(connection)

    def closed(self, connection: Any) -> None:
        self._open.discard(connection)
        self._forget(connection)
        self._forget_unread(connection)

    def make_room(self) -> None:
        """At the cost of who has asked nothing for longest; or, before the newest, of who does not read."""
        waiting = list(islice(self._waiting, 2))
        unread = list(islice(self._unread, 1))
        if connection := next(iter(waiting[:1] if len(waiting) > 1 else unread or waiting), None):
            self.closed(connection)
            connection.transport.abort()
        if time.monotonic() - self._told >= TOLD_SECONDS:
            self._told = time.monotonic()
            LOG.warning(
                "there are too many connections (%d): those that ask or read nothing are ended", len(self._open)
            )

    def _time(self, connection: Any) -> None:
        """From the moment on at which this part of a request began."""
        part, timer = self._waiting.get(connection, (None, None))
        if timer and part is connection.part:
            return
        if timer:
            timer.cancel()
        seconds = self._body_seconds if connection.part is Part.BODY else self.header_seconds
        timer = asyncio.get_running_loop().call_later(seconds, self._late, connection)
        self._waiting[connection] = (connection.part, timer)

    def _late(self, connection: Any) -> None:
        # Others only connected in advance, as browsers do, or have their answer.
        if connection.part is Part.HEAD and not connection.transport.is_closing():
            connection.transport.write(LATE)
        connection.transport.close()
        self.written(connection)

    def _end_unread(self, connection: Any) -> None:
        if connection.transport.get_write_buffer_size():
            connection.transport.abort()
        self._forget_unread(connection)

    def _forget(self, connection: Any) -> None:
        if timer := self._waiting.pop(connection, (Part.NONE, None))[1]:
            timer.cancel()

    def _forget_unread(self, connection: Any) -> None:
        if timer := self._unread.pop(connection, None):
            timer.cancel()


class Loop(asyncio.SelectorEventLoop):
    """TLS is to be agreed on as soon as headers are to arrive, and a lack of files is no news of its own."""

    def __init__(self, connections: Connections) -> None:
        super().__init__()
        self._connections = connections

    async def create_server(self, *arguments: Any, **keywords: Any) -> Any:
        if keywords.get("ssl"):
            keywords["ssl_handshake_timeout"] = self._connections.header_seconds
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
