"""Listening, and stopping without dropping anybody."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

import uvicorn

from client import notify, signals
from client.errors import CannotListen, UnreadableFile
from client.gateway.app import Gateway, make_app
from client.gateway.connections import ACCEPTED_AT_ONCE, Connections, Loop, most_connections
from client.gateway.protocol import protocol
from client.gateway.settings import Listening

BACKLOG = 2048
POLL_SECONDS = 0.05
# Longer than a request may take, so that what is in flight when a stop is asked for is answered.
GRACE_SECONDS = 60


def serve(gateway: Gateway, listening: Listening, announce: Callable[[str], None]) -> None:
    """Until SIGTERM or Ctrl-C. `announce` is told the address. Raises CannotListen, UnreadableFile."""

    settings = gateway.settings
    connections = Connections(most_connections(settings), settings.header_timeout, settings.body_timeout)
    config = uvicorn.Config(
        make_app(gateway),
        http=protocol(connections),
        ws="none",
        backlog=ACCEPTED_AT_ONCE,
        log_level="error",  # its warnings are of single requests: strangers could fill the log
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ssl_certfile=listening.certificate,
        ssl_keyfile=listening.key,
    )
    _load(config)
    listener = _listener(listening)
    scheme = "https" if listening.certificate else "http"
    host, port = listener.getsockname()[:2]
    with listener:
        address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        server = Server(config, gateway, listening.drain, address)
        announce(address)
        with asyncio.Runner(loop_factory=lambda: Loop(connections)) as runner:
            runner.run(server.serve(sockets=[listener]))


class Server(uvicorn.Server):
    """Not ready at the first signal, no more connections after `drain` seconds, and at once at a second SIGINT."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, drain: float, address: str) -> None:
        super().__init__(config)
        self._gateway, self._drain, self._address = gateway, drain, address
        self._watching: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)  # asyncio's word for how many it takes at once is the kernel's for how many wait
        notify.ready(f"listening on {self._address}")
        if seconds := notify.watchdog_seconds():
            self._ping(seconds / 3)
        self._watching = asyncio.create_task(self._watch(signals.of_process()))

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        """Left to the process's own: uvicorn's would run between any two steps of the event loop, and so spoil it."""
        return contextlib.nullcontext()

    def _ping(self, seconds: float) -> None:
        """From the event loop, so that a watchdog hears nothing of one that hangs."""
        notify.alive()
        asyncio.get_running_loop().call_later(seconds, self._ping, seconds)

    async def _watch(self, stop: signals.Stop) -> None:
        while not stop.is_set():
            await asyncio.sleep(POLL_SECONDS)
        self._gateway.draining = True
        notify.stopping("answering what is in flight")
        asyncio.get_running_loop().call_later(self._drain, self._stop)
        while not stop.is_urgent:
            await asyncio.sleep(POLL_SECONDS)
        self.should_exit = self.force_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn leaves this out then, and the connection to Triton open
            await self.lifespan.shutdown()

    def _stop(self) -> None:
        self.should_exit = True


def _load(config: uvicorn.Config) -> None:
    try:
        config.load()
    except (ssl.SSLError, OSError) as error:
        raise UnreadableFile(
            f"{config.ssl_certfile}, {config.ssl_keyfile}: no PEM certificate and key: {error}"
        ) from None


def _listener(listening: Listening) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
        listener = socket.create_server((listening.host, listening.port), family=family, backlog=BACKLOG)
        # asyncio sets this only on sockets of its own making; without it, answers wait 40 ms for more to send.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        reason = error.strerror or error
        raise CannotListen(f"{listening.host}:{listening.port}: {reason}; choose another --host or --port") from None
