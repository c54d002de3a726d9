"""Programs that run as forks of a process which has imported what they need: a plugin of pytest's, and `run`.

What a program imports is most of what it takes: half a second of processor time for repo-client, five seconds for a
build. Here it is imported once in each process of tests. A fork has arguments, streams, folder and environment of its
own, runs the module as `python -m` does, and ends as an interpreter ends. What tests send signals to, measure, or feed
by a pipe is started in earnest, by `processes.started` or subprocess; so is what asks what a program imports.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from processes import started

CLIENT = ["client", "client.batch.run", "client.commands.options", "typer.core", "tritonclient.grpc", "rich.table"]
BUILDER = ["builder.build.run", "builder.commands.build", "builder.manifest.models", "builder.cli", "torchvision"]
BUILDER += ["torch.onnx", "torch._dynamo", "onnx", "jinja2", "rich.table", "typer.core"]
IMPORTS = {"client.cli": CLIENT, "builder": BUILDER}
"""What is imported for each program, by the name that `python -m` takes."""
BEGIN_S = 120.0
_begun: dict[str, tuple[ExitStack, socket.socket]] = {}


def run(
    program: str,
    *arguments: object,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 240,
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run of `python -m PROGRAM ARGUMENTS`, captured, in text, with an empty standard input."""
    done = run_bytes(program, *arguments, cwd=cwd, environment=environment, timeout=timeout)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def run_bytes(
    program: str,
    *arguments: object,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 240,
) -> subprocess.CompletedProcess[bytes]:
    words = [os.fsdecode(each) if isinstance(each, bytes) else str(each) for each in arguments]
    asked = {"words": words, "cwd": os.fspath(cwd or Path.cwd()), "environment": dict(environment or os.environ)}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as request:
        request.write(json.dumps(asked).encode())
        request.flush()
        code = _forked(program, [out.fileno(), errors.fileno(), request.fileno()], timeout)
        out.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess([program, *words], code, out.read(), errors.read())


def _forked(program: str, files: list[int], timeout: float) -> int:
    """The exit status of a fork that has these files."""
    if program not in _begun:
        _begun[program] = _begin(program)
    connection = _begun[program][1]
    socket.send_fds(connection, [b"?"], files)
    try:
        connection.settimeout(timeout)
        if told := connection.recv(32):
            return int(told)
    except BaseException:
        _end(program)  # and its fork with it
        raise
    _end(program)
    raise RuntimeError(f"the process that forks {program} has ended")


def _begin(program: str) -> tuple[ExitStack, socket.socket]:
    with ExitStack() as stack:
        ours, theirs = socket.socketpair()
        stack.callback(ours.close)
        with theirs:
            command = [sys.executable, __file__, program, theirs.fileno()]
            stack.enter_context(started(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]))
        ours.settimeout(BEGIN_S)
        assert ours.recv(1) == b"!", f"the process that forks {program} did not begin"
        return stack.pop_all(), ours
    raise AssertionError


def _end(program: str) -> None:
    """With a fork that it may have."""
    _begun.pop(program)[0].close()


def pytest_sessionfinish() -> None:
    for program in list(_begun):
        _end(program)


# --- in the process that forks ---


def serve(program: str, connection: socket.socket) -> int | None:
    """Forks for each request: None in a fork, which then runs the program; a status when nobody asks any more."""
    connection.sendall(b"!")
    while True:
        asked, files, *_ = socket.recv_fds(connection, 1, 3)
        if not asked:
            return 0
        pid = os.fork()
        if pid == 0:
            connection.close()
            _become(program, files)
            return None
        for file in files:
            os.close(file)
        _, status = os.waitpid(pid, 0)
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def _become(program: str, files: list[int]) -> None:
    """What `python -m` finds when it begins."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends with the process that forked it
    out, errors, request = files
    asked: dict[str, Any] = json.loads(os.pread(request, os.fstat(request).st_size, 0))
    os.dup2(out, 1)
    os.dup2(errors, 2)
    for file in files:
        os.close(file)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    tempfile.tempdir = None
    sys.argv = [program, *asked["words"]]
    sys.path[0] = asked["cwd"]


def main() -> None:
    import gc
    import importlib
    import runpy

    program, descriptor = sys.argv[1], int(sys.argv[2])
    if program == "builder":
        from builder.machine import cores

        cores.spin_briefly()  # as the program itself, before the libraries that heed it
    for name in IMPORTS[program]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    status = serve(program, socket.socket(fileno=descriptor))
    if status is None:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
