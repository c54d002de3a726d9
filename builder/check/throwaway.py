"""A server that is there to say what it thinks of models, and for nobody else."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import select
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from builder.check import unwritten
from builder.check.findings import DIED
from builder.errors import LaunchError
from builder.launchers import guard, sharing
from builder.launchers.runtime import PYTHON_BACKEND, Bare
from builder.machine import signals
from builder.triton.control import DIRECT, HEADER, MODEL_CONTROL, NO_ANSWER, READY, STUB_TIMEOUT_SECONDS, http_headers

START_S = 60.0
START_POLL_S = 0.01
ASK_S = 60.0
"""For what is answered at once by a server that lives."""
UNLOAD_S = 5.0
UNLOAD_POLL_S = 0.0005
END_S = 2.0
"""For a gentle end; then it is killed."""
KEPT = 256 * 1024
"""Bytes of its log: a model's code may print for ever."""
ANSWER_BYTES = 1024 * 1024
QUOTED_BYTES = 2000
LOADING = re.compile(r"\] \"loading: ")
FAILED = re.compile(r"\] \"failed to load '.*' version ")
UNLOADED = re.compile(r"\] \"successfully unloaded ")
UNTOLD = re.compile(r"\s*\d+# |[IW]\d{4} |.*CudaDriverHelper|\s*$")
"""Lines of places in memory, and of what is no error."""
UNLOADED_BEFORE = "unloaded"
"""The index's reason for versions that were there, and are not any more."""
NOT_READY = "it is not ready"
HUNG = "the server did not come back within"


class Gone(Exception):
    """The server died, or was given up, over a model."""


class Throwaway:
    """One server, as long as the block lasts."""

    def __init__(self, runtime: Bare, options: list[str], seconds: float = START_S) -> None:
        """`seconds` is its time to start, with what it is to load then."""
        self._seconds = seconds
        self._key, self._prefix = secrets.token_urlsafe(24), f"build-repo-{secrets.token_hex(6)}-"
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}/v2"
        command = [str(runtime.binary), *options, *_own(port), *_of_python(self._prefix)]
        programs = unwritten.laid_out(runtime.folder / "python")
        environment = runtime.environment | {"PATH": f"{programs}{os.pathsep}{runtime.environment['PATH']}"}
        with signals.held():  # until the guard has the folder to remove
            self._process = subprocess.Popen(
                # Isolated and without site-packages, as for the embedded server.
                [sys.executable, "-I", "-S", guard.__file__, self._prefix, str(runtime.folder), str(END_S), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the server
            )
            self._tell_key()
        assert self._process.stdout is not None  # opened as a pipe
        self._log = _Log(self._process.stdout.fileno())

    def __enter__(self) -> Throwaway:
        try:
            self._wait_until_live()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdout is not None  # opened as a pipe
        self._end()
        self._process.stdout.close()

    def _end(self) -> None:
        """Have the guard end the server, if it must by force, and take away what it leaves."""
        assert self._process.stdin is not None  # opened as a pipe
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(END_S + ASK_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the server is told to go with its guard
            self._process.wait()
        self._log.finish()

    def _tell_key(self) -> None:
        """To the guard, by the pipe that nobody else can read."""
        arguments = [f"--http-restricted-api={group}:{HEADER}={self._key}" for group in MODEL_CONTROL]
        assert self._process.stdin is not None  # opened as a pipe
        with contextlib.suppress(BrokenPipeError):  # it ended at once, which is noticed later
            self._process.stdin.write(json.dumps(arguments).encode() + b"\n")
            self._process.stdin.flush()

    def _wait_until_live(self) -> None:
        deadline = time.monotonic() + self._seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(*NO_ANSWER):
                self._ask("/health/live")
                return
            time.sleep(START_POLL_S)
        if self._process.poll() is None:
            raise LaunchError(f"{HUNG} {self._seconds:g} s")
        self._log.finish()
        raise LaunchError(f"no server could be started to load the models; it said: {self._last_words()}")

    def forget(self) -> None:
        """What it said so far."""
        self._log.forget()

    def said(self) -> str:
        return self._log.text()

    def load(self, model: str, seconds: float) -> str:
        """Why it does not, empty if it does; its name goes as it is. Raises Gone."""
        try:
            if reason := self._refusal(f"/repository/models/{model}/load", {}, seconds):
                return reason
            # After a load that failed, the next one may be answered as if it had not.
            return self.indexed(model) if self._refusal(f"/models/{model}/ready") else ""
        except NO_ANSWER as error:
            raise self._gone(error, seconds) from None

    def unload(self, model: str) -> None:
        """Back when it and its steps are gone, or nearly. Raises Gone."""
        path = f"/repository/models/{model}"
        try:
            self._refusal(f"{path}/unload", {"parameters": {"unload_dependents": True}})
            deadline = time.monotonic() + UNLOAD_S
            while self._is_going() and time.monotonic() < deadline:
                time.sleep(UNLOAD_POLL_S)
        except NO_ANSWER as error:
            raise self._gone(error, ASK_S) from None

    def _is_going(self) -> bool:
        """Whether, by what it said since `forget`, versions that it began to load are still there."""
        said = self.said()
        begun, failed, gone = (len(re.findall(words, said)) for words in (LOADING, FAILED, UNLOADED))
        return self._process.poll() is None and begun - failed > gone

    def _gone(self, error: BaseException, seconds: float) -> Gone:
        """Over a model, for this reason; what is left of it is ended."""
        is_hung = isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError)
        self._end()
        return Gone(f"{HUNG} {seconds:g} s" if is_hung else f"{DIED}: {self._last_words()}")

    def _last_words(self) -> str:
        lines = [line for line in self.said().splitlines() if not UNTOLD.match(line)]
        return "\n".join(lines)[-QUOTED_BYTES:]

    def indexed(self, model: str) -> str:
        """Why it, or a version of it, is not ready, as the index tells it; empty: all are."""
        told = json.loads((self._ask("/repository/index", {}) or b"[]").decode(errors="surrogateescape"))
        found = [each for each in told if each["name"] == model and each.get("reason") != UNLOADED_BEFORE]
        failed = [each.get("reason") or NOT_READY for each in found if each.get("state") != READY]
        return "; ".join(failed) if found else NOT_READY

    def _refusal(self, path: str, body: dict[str, Any] | None = None, seconds: float = ASK_S) -> str:
        """Why it does not do what it is asked; empty: it has done so."""
        try:
            self._ask(path, body, seconds)
        except urllib.error.HTTPError as error:
            with error:
                return _told(error.read(ANSWER_BYTES))
        return ""

    def _ask(self, path: str, body: dict[str, Any] | None = None, seconds: float = ASK_S) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, http_headers(self._key))
        with DIRECT.open(request, timeout=seconds) as response:
            answer: bytes = response.read()
        return answer


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _own(port: int) -> list[str]:
    return [
        "--model-control-mode=explicit",
        "--exit-on-error=false",
        "--http-address=127.0.0.1",
        f"--http-port={port}",
        "--http-thread-count=2",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--model-load-retry-count=0",
        "--exit-timeout-secs=1",
        "--log-info=true",  # it tells when a model is gone
    ]


def _of_python(prefix: str) -> list[str]:
    settings = {"shm-region-prefix-name": prefix, "stub-timeout-seconds": STUB_TIMEOUT_SECONDS}
    own = [f"--backend-config={PYTHON_BACKEND},{name}={value}" for name, value in settings.items()]
    return own + sharing.arguments(1, sharing.free())


def _told(answer: bytes) -> str:
    text = answer.decode(errors="replace")
    try:
        return str(json.loads(text)["error"]) or "it does not say why"
    except (ValueError, KeyError, TypeError):
        return text or "it does not say why"


class _Log:
    """What comes through a pipe, the last of it; read all the time, or its writer would be held up."""

    def __init__(self, pipe: int) -> None:
        self._pipe, self._lock, self._kept = pipe, threading.Lock(), bytearray()
        self._reader = threading.Thread(target=self._attend, daemon=True)
        self._is_over = False
        self._reader.start()

    def _attend(self) -> None:
        while not self._is_over:
            if select.select([self._pipe], [], [], 0.2)[0]:
                with self._lock:
                    self._drain()

    def _drain(self) -> None:
        """All that is there now."""
        while not self._is_over and select.select([self._pipe], [], [], 0)[0]:
            if not (read := os.read(self._pipe, max(1, _waiting(self._pipe)))):
                self._is_over = True
            self._kept += read
            del self._kept[:-KEPT]

    def text(self) -> str:
        with self._lock:
            self._drain()
            return self._kept.decode(errors="replace")

    def forget(self) -> None:
        with self._lock:
            self._drain()
            self._kept.clear()

    def finish(self) -> None:
        """After the last word of a server that has ended."""
        with self._lock:
            self._drain()
            self._is_over = True
        self._reader.join()


def _waiting(pipe: int) -> int:
    """Bytes that can be read from it at once."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0"))[0])
