"""Ways to run a Triton server over a repository. A launcher is a module with a `launch`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from builder.launchers import docker, embedded
from builder.launchers.options import ContainerOptions, LaunchOptions, ServerTls
from builder.triton.advisories import Advisory
from builder.types import Endpoints

__all__ = ["LAUNCHERS", "ContainerOptions", "LaunchOptions", "Launcher", "Server", "ServerTls"]


class Server(Protocol):
    endpoints: Endpoints
    name: str
    """By which a detached one is stopped; empty for the others."""
    is_restricted: bool
    """Whether model control and the like are closed to all who have no key."""
    advisories: tuple[Advisory, ...]
    """Published holes that others than this machine's own users can use, the worst first."""

    def wait(self) -> int:
        """Block until the server ends; its exit status."""

    def is_live(self) -> bool:
        """Whether it answers."""

    def stop(self) -> None:
        """Let requests in flight be answered, then end the server and all it started."""


class Launcher(Protocol):
    def launch(self, repository: Path, options: LaunchOptions) -> Server:
        """Start a server; back when every model is ready. Raises LaunchError."""


LAUNCHERS: dict[str, Launcher] = {"embedded": embedded, "docker": docker}
