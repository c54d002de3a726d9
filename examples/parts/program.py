"""build-repo, run as a user runs it; whatever happens here, no server stays behind."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent
PROGRAM = [sys.executable, "-m", "builder"]
ANY_PORTS = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
PATIENCE = 60
"""Seconds that a server may take to stop."""


def run(*arguments: str | Path) -> None:
    """Ends this program with the other's code if that fails."""
    if code := subprocess.run([*PROGRAM, *map(str, arguments)]).returncode:
        sys.exit(code)


@contextmanager
def serving(repository: Path) -> Iterator[str]:
    """The gRPC address of a real Triton over the repository; it has stopped when this is left, in whatever way.

    It also stops when its standard input closes, as happens if this process is killed; and it has a session of its
    own, so that a Ctrl-C reaches it once, from here.
    """
    command = [*PROGRAM, "serve", "-r", str(repository), "--json", "--linger", "0", "--until-input-closes", *ANY_PORTS]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    server = subprocess.Popen(command, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload]
    try:
        ready = server.stdout.readline()
        if not ready:
            sys.exit(server.wait(PATIENCE))
        yield json.loads(ready)["grpc"]
    finally:
        code = _stopped(server)
    if code:
        sys.exit(code)


def _stopped(server: "subprocess.Popen[str]") -> int:
    server.terminate()
    try:
        return server.wait(PATIENCE)
    except BaseException:  # it hangs, or somebody pressed Ctrl-C again
        server.kill()
        server.wait(PATIENCE)
        raise
