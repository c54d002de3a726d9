"""How a call reaches the server. A transport is a module with the two functions of `Kind`.

tritonclient has four clients with the same methods. What differs between them stops here: how time is
limited, how a call is cancelled, what errors look like, and what answers look like.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Protocol

from client.endpoint import Endpoint
from client.transports import grpc, http
from client.types import Ask, Inference


class Transport(Protocol):
    """For threads, any number of them."""

    def start(self, call: Ask | Inference, seconds: float) -> Future[Any]:
        """The answer to come: a dict, True or False, or arrays by name. It fails with ClientError alone.

        Cancelling the future cancels the call.
        """

    def close(self) -> None: ...


class AsyncTransport(Protocol):
    """For one event loop. Cancelling the task cancels the call."""

    async def send(self, call: Ask | Inference, seconds: float) -> Any: ...

    async def close(self) -> None: ...


class Kind(Protocol):
    def connect(self, endpoint: Endpoint) -> Transport: ...

    def connect_async(self, endpoint: Endpoint) -> AsyncTransport:
        """Called inside the loop that will use it."""


KINDS: dict[str, Kind] = {"grpc": grpc, "grpcs": grpc, "http": http, "https": http}
