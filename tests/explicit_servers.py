"""Real tritonservers over a repository itself, whose models only come and go by order."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import processes
from waiting import until

from builder.launchers.runtime import make_runtime
from builder.triton.control import Control

START_S = 180.0


@dataclass(frozen=True)
class Running:
    grpc: str
    http: str
    pid: int
    log: Path
    process: subprocess.Popen[bytes]


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def serving(
    repository: Path,
    folder: Path,
    arguments: Sequence[str] = (),
    mode: str = "explicit",
    key: str | None = None,
    ports: Sequence[int] = (),
) -> Iterator[Running]:
    """Ready. `folder` gets its log; `arguments` are tritonserver's beside those that it needs. `ports` are HTTP's,
    gRPC's and that of the metrics; none: any that are free.
    """
    runtime, prefix = make_runtime(repository), f"rollout-{secrets.token_hex(4)}"
    http, grpc, metrics = ports or free_ports(3)
    loads = ["--load-model=*"] if mode == "explicit" else []
    command = [
        str(runtime.binary),
        f"--model-repository={repository}",
        f"--backend-directory={runtime.backends}",
        f"--model-control-mode={mode}",
        *loads,
        "--disable-auto-complete-config",
        "--exit-on-error=false",
        "--http-address=127.0.0.1",
        "--grpc-address=127.0.0.1",
        "--metrics-address=127.0.0.1",
        f"--http-port={http}",
        f"--grpc-port={grpc}",
        f"--metrics-port={metrics}",
        f"--backend-config=python,shm-region-prefix-name={prefix}",
        "--backend-config=python,shm-default-byte-size=4194304",
        "--allow-gpu-metrics=false",
        "--exit-timeout-secs=2",
        "--model-load-retry-count=0",
        *arguments,
    ]
    log = folder / f"server-{grpc}.log"
    control = Control(f"127.0.0.1:{http}", key)
    try:
        with (
            log.open("wb") as output,
            processes.started(command, env=runtime.environment, stdout=output, stderr=subprocess.STDOUT) as process,
        ):
            until(lambda: process.poll() is not None or control.is_ready(), START_S, lambda: log.read_text()[-3000:])
            assert process.poll() is None, log.read_text()[-3000:]
            yield Running(f"127.0.0.1:{grpc}", f"http://127.0.0.1:{http}", process.pid, log, process)
    finally:
        runtime.snapshot.close()
        shutil.rmtree(runtime.folder, ignore_errors=True)
        for region in Path("/dev/shm").glob(f"{prefix}*"):
            region.unlink(missing_ok=True)
