"""Ways to run a Triton server over a repository. A launcher is a module with a `launch`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from builder.launchers import embedded
from builder.types import Endpoints


@dataclass(frozen=True)
class LaunchOptions:
    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    verbose: bool = False


class Server(Protocol):
    endpoints: Endpoints

    def wait(self) -> int:
        """Block until the server ends; its exit status."""

    def is_live(self) -> bool:
        """Whether it answers."""

    def stop(self) -> None:
        """Let requests in flight be answered, then end the server and all it started."""


class Launcher(Protocol):
    def launch(self, repository: Path, options: LaunchOptions) -> Server:
        """Start a server; back when every model is ready. Raises LaunchError."""


LAUNCHERS: dict[str, Launcher] = {"embedded": embedded}
