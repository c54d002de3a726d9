"""gRPC for processes that were forked after gRPC was used: it runs in a process of its own, started afresh.

gRPC's library does not survive a fork: the child shares the parent's poller, and finds locks held by threads that it
has not. So the child's calls go through a pipe to a new interpreter, which ends with the process that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from client.endpoint import Endpoint
from client.errors import Cancelled, ClientError
from client.types import Ask, Inference

START = "import sys; from client.transports.relay import serve; serve(int(sys.argv[1]))"
# Inferences are not waited for by a thread.
ASKED_AT_ONCE = 16
END_SECONDS = 5.0


class Relay:
    """For threads. The process is started at the first call."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Any]] = {}
        self._pipe: Connection[Any, Any] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def start(self, call: Ask | Inference, seconds: float) -> Future[Any]:
        answer: Future[Any] = Future()
        number, deadline = next(self._numbers), time.monotonic() + seconds
        with self._lock:
            if self._closed:
                answer.set_exception(Cancelled("the client was closed"))
                return answer
            try:
                pipe = self._pipe or self._launched()
                self._waiting[number] = answer
                pipe.send((number, call, deadline, seconds))
            except OSError as error:
                self._waiting.pop(number, None)
                answer.set_exception(self._lost(str(error)))
                return answer
        answer.add_done_callback(lambda future: self._cancel(number) if future.cancelled() else None)
        return answer

    def _launched(self) -> Connection[Any, Any]:
        ours, theirs = multiprocessing.Pipe()
        with theirs:
            # Without fork(), whose handlers of gRPC's would hang here, and without arguments that tell secrets.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", START, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self._pipe = ours
        given = (ours, self._process)
        threading.Thread(target=self._receive, args=given, daemon=True, name="repo-client-relay").start()
        ours.send(self._endpoint)
        return ours

    def _receive(self, pipe: Connection[Any, Any], process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                number, value, error = pipe.recv()
                self._settle(number, value, error)
        code = process.wait()
        with self._lock:
            if self._pipe is pipe:
                self._pipe = None
            lost, self._waiting = self._waiting, {}
        pipe.close()
        for answer in lost.values():
            _settle(answer, None, self._lost(f"it ended with code {code}"))

    def _settle(self, number: int, value: Any, error: ClientError | None) -> None:
        with self._lock:
            answer = self._waiting.pop(number, None)
        if answer:
            _settle(answer, value, error)

    def _lost(self, reason: str) -> ClientError:
        reason = (
            f"this process was forked after gRPC was used, so that its calls go through a process of their own, and "
            f"that one, {sys.executable}, failed: {reason}; the server's HTTP port, with http://, needs none"
        )
        return self._endpoint.error("UNAVAILABLE", reason)

    def _cancel(self, number: int) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._waiting.pop(number, None) and self._pipe:
                self._pipe.send((number, None, 0.0, 0.0))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            process, pipe = self._process, self._pipe
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.send(None)
        if process:
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class AsyncRelay:
    """For event loops."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._relay = Relay(endpoint)

    async def send(self, call: Ask | Inference, seconds: float) -> Any:
        answer = asyncio.wrap_future(await asyncio.to_thread(self._relay.start, call, seconds))
        return await answer

    async def close(self) -> None:
        await asyncio.to_thread(self._relay.close)


def _settle(answer: Future[Any], value: Any, error: BaseException | None) -> None:
    with contextlib.suppress(InvalidStateError):  # the caller cancelled and has gone
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)


def serve(descriptor: int) -> None:
    """The process itself: calls from the pipe, answers into it, until the other end is closed."""
    from client.transports.grpc import Grpc

    for number in (signal.SIGINT, signal.SIGTERM):  # they are the owner's, who may have calls to finish
        signal.signal(number, signal.SIG_IGN)
    pipe: Connection[Any, Any] = Connection(descriptor)
    with contextlib.suppress(EOFError, OSError):
        endpoint = pipe.recv()
        _Serving(endpoint, Grpc(endpoint), pipe).run()
    os._exit(0)  # whatever is in flight


class _Serving:
    def __init__(self, endpoint: Endpoint, transport: Any, pipe: Connection[Any, Any]) -> None:
        self._endpoint, self._transport, self._pipe = endpoint, transport, pipe
        self._lock = threading.Lock()
        self._started: dict[int, Future[Any]] = {}
        self._pool = ThreadPoolExecutor(ASKED_AT_ONCE)

    def run(self) -> None:
        while (message := self._pipe.recv()) is not None:
            number, call, deadline, seconds = message
            if call is None:
                self._cancel(number)
            elif isinstance(call, Inference):
                self._start(number, call, deadline, seconds)
            else:
                self._pool.submit(self._start, number, call, deadline, seconds)

    def _start(self, number: int, call: Ask | Inference, deadline: float, seconds: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            self._send(number, None, self._endpoint.late(seconds))
            return
        started: Future[Any] = self._transport.start(call, left)
        with self._lock:
            self._started[number] = started
        started.add_done_callback(self._answering(number))

    def _answering(self, number: int) -> Callable[[Future[Any]], None]:
        def answer(done: Future[Any]) -> None:
            with self._lock:
                self._started.pop(number, None)
            if done.cancelled():
                return
            error = done.exception()
            self._send(number, None if error else done.result(), error)

        return answer

    def _cancel(self, number: int) -> None:
        with self._lock:
            started = self._started.get(number)
        if started:
            started.cancel()

    def _send(self, number: int, value: Any, error: BaseException | None) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._pipe.send((number, value, error))
