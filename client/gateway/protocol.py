"""HTTP by uvicorn, within limits that it lacks: of what comes before a request is whole, and of requests in advance."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from client.gateway.connections import Connections

LOOSE_BYTES = 64 * 1024
"""May come without a request's headers, a chunk of its body or its trailers being whole by them."""
IN_ADVANCE = 32
"""Requests that are kept for when those before them are answered."""


class Part(Enum):
    """Of a request, what is awaited."""

    NONE = "the next request's beginning"
    HEAD = "the rest of its headers"
    BODY = "the rest of its body"


def _answer(status: str, text: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(text)}\r\n"
    return (head + ("Content-Type: text/plain\r\n" if text else "") + "\r\n" + text).encode("ascii")


LATE = _answer("408 Request Timeout")
TOO_LONG = _answer("431 Request Header Fields Too Large")


class TooMany(Exception):
    """Requests in advance. Ends the parser."""


def protocol(connections: Connections) -> type[asyncio.Protocol]:
    """Uvicorn's, which tells what happens to each connection."""

    class Watched(Limited):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            connections.opened(self)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            connections.heard(self)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            connections.answered(self)

        def pause_writing(self) -> None:
            super().pause_writing()
            connections.written(self)

        def resume_writing(self) -> None:
            super().resume_writing()
            connections.taken(self)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            connections.closed(self)

    return Watched


class Limited(HttpToolsProtocol):
    part = Part.NONE
    _loose = 0
    """Bytes that came since the parser had something whole: it, or the list of headers, holds them."""
    _is_deaf = False
    """What still comes is not looked at; the connection ends with the answers that are due."""

    @property
    def is_asked(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._loose += len(data)
        super().data_received(data)
        if self._loose > LOOSE_BYTES:
            self._refuse(TOO_LONG)

    def on_message_begin(self) -> None:
        self.part, self._loose = Part.HEAD, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= IN_ADVANCE:
            raise TooMany
        self.part, self._loose = Part.BODY, 0
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        self._loose = 0

    def on_body(self, body: bytes) -> None:
        self._loose = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.part, self._loose = Part.NONE, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(_answer("400 Bad Request", msg))

    def _unsupported_upgrade_warning(self) -> None:
        """It is answered as if it had not asked to upgrade, and nothing behind it can be parsed."""
        self._refuse(b"")

    def _refuse(self, answer: bytes) -> None:
        """Hear no more. What came before is answered still; the answer is for what has none."""
        self._is_deaf = True
        if self.part is not Part.BODY and self.is_asked:
            self.cycle.keep_alive = False
            return
        if not self.pipeline and not (self.part is Part.BODY and self.cycle.response_started):
            self.transport.write(answer)
        self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        if self.part is not Part.BODY:  # or it was answered early, and its body still comes
            super().timeout_keep_alive_handler()
