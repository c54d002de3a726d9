"""Keeps the server's processes and shared memory from outliving their launcher.

Run as a process of its own between the launcher and tritonserver, with nothing but the standard
library: `python guard.py SHM_PREFIX RUNTIME_FOLDER GRACE COMMAND...`. Its standard input is a pipe
whose other end the launcher holds, and whose first line is a JSON list of arguments to add to the
command that nobody should see. When that end closes, because the launcher asks for a stop or because
something killed it, the server is ended, first gently; whatever the server leaves, its Python stubs
and its shared memory, goes with it.

Should this process itself be killed, the kernel sends the server SIGTERM, and the launcher cleans up.
"""

import ctypes
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

if __package__:
    from builder.launchers import hidden
else:  # run as a file, under -I, which leaves a file's own folder out of the path
    sys.path.append(str(Path(__file__).parent))
    import hidden  # type: ignore[import-not-found, no-redef]

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL_SECONDS = 0.05
SHARED_MEMORY = Path("/dev/shm")
HURRY = b"!"
"""Before the end of the input: the server will hardly end by itself."""
HURRIED_SECONDS = 5.0
NOT_HIDDEN = 79
"""Exit status: the secret arguments would have been seen. The last line says why."""


def main() -> int:
    prefix, runtime, grace, *command = sys.argv[1:]
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # stubs of a dead server become ours to end
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the pipe alone says when to stop
    try:
        server = hidden.start(
            command, _read_secret(), stdin=subprocess.DEVNULL, preexec_fn=lambda: _prepare_child(libc)
        )
    except hidden.NotHidden as error:
        print(error, flush=True)
        remove_leftovers(prefix, Path(runtime))
        return NOT_HIDDEN
    try:
        _wait_for_end(server, float(grace))
    finally:
        end_children()
        remove_leftovers(prefix, Path(runtime))
    code = server.returncode
    return 128 - code if code < 0 else code


def _read_secret() -> list[str]:
    """By single bytes: what comes after the line, the end, is for the selector to see."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(sys.stdin.fileno(), 1)):
        line += byte
    secret: list[str] = json.loads(line or b"[]")
    return secret


def _prepare_child(libc: ctypes.CDLL) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait_for_end(server: subprocess.Popen[bytes], grace: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        while server.poll() is None:
            if not selector.select(POLL_SECONDS):
                continue
            if os.read(sys.stdin.fileno(), 1) == HURRY:
                grace = min(grace, HURRIED_SECONDS)
            else:
                _stop(server, grace)


def _stop(server: subprocess.Popen[bytes], grace: float) -> None:
    server.terminate()
    try:
        server.wait(grace)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def end_children() -> None:
    """Kill and collect every process that is left below this one."""
    me = str(os.getpid())
    while children := Path(f"/proc/{me}/task/{me}/children").read_text().split():
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(POLL_SECONDS)


def remove_leftovers(prefix: str, runtime: Path) -> None:
    """Delete the server's shared memory and its runtime folder."""
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)
    shutil.rmtree(runtime, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
