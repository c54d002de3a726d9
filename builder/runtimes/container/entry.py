"""The first process of a container of NVIDIA's image: starts tritonserver, and drains it before it stops.

On SIGTERM Triton stops all models at once, so that a request between two steps of an ensemble fails. So this takes
the ensembles away first, which lets the requests that are inside them through. It serves a repository as that is when
it starts, whatever a build does to it meanwhile: what is published later is there to be loaded, and is not loaded by
itself. It has models loaded anew whose worker process died, makes do with the shared memory that there is, and has the
server forget that of clients that are dead. The standard library alone, with the files of `FIRST_PROCESS` in
builder/containers/nvidia.py beside it. What it says and its exit codes are those of `build-repo serve`.
"""

from __future__ import annotations

import argparse
import atexit
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import care  # type: ignore[import-not-found]
import command_line  # type: ignore[import-not-found]
import control  # type: ignore[import-not-found]
import hidden  # type: ignore[import-not-found]
import mirror  # type: ignore[import-not-found]
import snapshot  # type: ignore[import-not-found]

HURRIED_SECONDS = 5
"""Where a worker died: what is left of it may keep the server from ending in order."""
POLL_SECONDS = 0.1
CANNOT_LAUNCH, CANNOT_LOAD, ENDED = 10, 11, 21
# Of a session of its own: Ctrl-C at a container's terminal is for the first process alone, which then drains it.
PIPED: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "start_new_session": True}
UNLOADED = re.compile(r"successfully unloaded '(.+)' version (\d+)")
TRIAL_REMARK = "Failed to set config modification time"
"""Of models that are loaded for a trial, with files of their own."""
LOCAL = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


class Stop:
    """Whether the end is asked for. The handler takes no lock, which the thread that it interrupts may hold."""

    def __init__(self) -> None:
        self._is_set = False
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def listen(self) -> None:
        # The interpreter's own handler writes a byte, too, so that none comes too late to wake a wait that begins.
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        atexit.register(_ignore_signals)

    def _note(self, *_: int | FrameType | None) -> None:
        self._is_set = True

    def set(self) -> None:
        """Ask for the end, from another thread."""
        self._is_set = True
        with suppress(BlockingIOError):
            os.write(self._writer, b"!")

    def wait(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        if not self._is_set and poll.poll(seconds * 1000) and not self._is_set:
            os.read(self._reader, 4096)  # of other signals
        return self._is_set


def _ignore_signals() -> None:
    """While the interpreter ends, they could only spoil the exit code."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def main() -> int:
    stopping = Stop()
    stopping.listen()  # before all else: the kernel keeps signals without a handler from a container's first process
    options, taken = command_line.options(), None
    try:
        key = command_line.key(options)
        taken = _snapshot(options)
        server = Process(_started(options, key), options.verbose)
    except (OSError, hidden.NotHidden) as error:
        _forget(taken)
        _say(f"{error}; --unrestricted does without a key" if isinstance(error, hidden.NotHidden) else str(error))
        return CANNOT_LAUNCH
    if options.until_input_closes:
        threading.Thread(target=_wait_for_end_of_input, args=(stopping,), daemon=True).start()
    try:
        return _run(server, Attending(options, key, taken), stopping, options.linger)
    finally:
        if server.process.poll() is None:
            _end(server.process)
        server.finish()
        _forget(taken)


def _started(options: argparse.Namespace, key: str | None) -> Any:
    """tritonserver's process. Raises OSError, NotHidden."""
    command_line.require_shared_memory(options.repository)
    secret = control.secret_arguments(key)
    return hidden.start(command_line.arguments(options), secret, env=command_line.environment(), **PIPED)


def _forget(taken: Any) -> None:
    if taken:
        taken.close()
        shutil.rmtree(taken.folder.parent, ignore_errors=True)


def _snapshot(options: argparse.Namespace) -> Any:
    """Of a repository in a folder; what is served is then that. It is open as long as it is kept. Raises OSError."""
    if not Path(options.repository).is_dir():
        return None  # somewhere that the server itself reads, such as s3://, or a mistake that it tells of
    try:
        folder = Path(tempfile.mkdtemp(prefix="build-repo-"))
    except FileNotFoundError as error:
        _say(f"{error}: the server reads the repository itself, so build no other one in its place while it runs")
        return None
    try:
        taken = snapshot.Snapshot(Path(options.repository).absolute(), folder / "models")
    except OSError:
        folder.rmdir()
        raise
    options.repository = str(taken.folder)
    return taken


def _wait_for_end_of_input(stopping: Stop) -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock this would hold when the process ends
        pass
    stopping.set()


class Process:
    """tritonserver, whose log this passes on and reads."""

    def __init__(self, process: subprocess.Popen[bytes], verbose: bool) -> None:
        self.process = process
        self.unloaded: set[tuple[str, str]] = set()
        """Models, with their versions, whose last request is through: the index says so too early, the log does not."""
        self._verbose = verbose
        self._is_quiet = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def finish(self) -> None:
        """Pass the last words on: a thread that still writes when the interpreter ends can hang it."""
        self._reader.join(1)

    def quiet(self) -> None:
        """From here on, pass nothing on that is not asked for: the log is made to tell more than it did."""
        self._is_quiet = not self._verbose

    def _read(self) -> None:
        assert self.process.stdout is not None  # piped
        for line in self.process.stdout:
            text = line.decode(errors="replace")
            if found := UNLOADED.search(text):
                self.unloaded.add((found[1], found[2]))
            if not self._is_quiet and (self._verbose or TRIAL_REMARK not in text):
                sys.stderr.write(text)
                sys.stderr.flush()


class Attending:
    """What the server is controlled by, and what is done for it from when all its models are ready."""

    def __init__(self, options: argparse.Namespace, key: str | None, taken: Any) -> None:
        host = options.http_host or options.host
        self.control = control.Control(f"{LOCAL.get(host, host)}:{options.http_port}", key)
        self.reasons: list[str] = []
        """Why the server is to end."""
        self._names = command_line.wanted_of(options.repository)
        self._taken, self._checks = taken, options.check
        self._helpers: list[Any] = []

    @property
    def has_begun(self) -> bool:
        return bool(self._helpers)

    @property
    def was_needed(self) -> bool:
        return any(getattr(helper, "was_needed", False) for helper in self._helpers)

    def unready(self) -> Any:
        return self.control.unready(self._names)

    def begin(self, server: int) -> None:
        self._helpers.append(care.Care(server, self.control, lambda reason, _: self.reasons.append(reason), _say))
        if self._taken:
            self._helpers.append(mirror.Mirror(self._taken, self.control.loaded, _say, checks=self._checks))

    def leave(self) -> None:
        for helper in self._helpers:
            helper.leave()


def _run(started: Process, attending: Attending, stopping: Stop, linger: float) -> int:
    server, reasons = started.process, attending.reasons
    while server.poll() is None and not reasons and not stopping.wait(POLL_SECONDS):
        if not attending.has_begun and (failed := attending.unready()) is not None:
            if failed:
                _say_reasons(failed)
                _end(server)
                return CANNOT_LOAD
            attending.begin(server.pid)
            _say("ready")
    if server.poll() is not None:
        _say(f"the server ended by itself with status {server.returncode}; its last words are above")
        return ENDED
    _finish(started, attending, 0 if reasons else linger)
    if reasons:
        _say(f"{reasons[0]}; the server is ended, so that whoever watches it starts it anew")
        return ENDED
    return 0


def _finish(started: Process, attending: Attending, linger: float) -> None:
    """Answer what is in flight, and end the server."""
    if attending.has_begun:
        time.sleep(linger)  # balancers go on sending until they have noticed
        attending.leave()
    _say("stopping: answering what is in flight ...")
    if attending.has_begun:
        _drain(started, attending.control)
    _end(started.process, HURRIED_SECONDS if attending.was_needed else control.GRACE_SECONDS + 5)


def _say_reasons(failed: list[dict[str, str]]) -> None:
    """An ensemble fails with its steps, and has no reason of its own to tell."""
    reasons = {model["name"]: " ".join(model.get("reason", "").split()) for model in failed}
    telling = {name: reason for name, reason in reasons.items() if reason and "depend" not in reason} or reasons
    lines = [f"the server cannot load {name}: {reason or 'see its log above'}" for name, reason in telling.items()]
    _say("\n".join(lines))


def _drain(server: Process, admin: Any) -> None:
    server.quiet()
    server.unloaded.clear()  # of rollouts
    try:
        care.drain(admin, lambda: server.unloaded, lambda: server.process.poll() is not None)
    except control.NO_ANSWER as error:
        _say(f"the server is stopped without waiting for what is in flight: {error}")


def _end(server: subprocess.Popen[bytes], seconds: float = control.GRACE_SECONDS + 5) -> None:
    server.terminate()
    try:
        server.wait(seconds)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


_say = care.say


if __name__ == "__main__":
    sys.exit(main())
