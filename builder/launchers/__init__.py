"""Ways to run a Triton server over a repository. A launcher is a module with what `Launcher` lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from builder.launchers import docker, embedded
from builder.launchers.options import LaunchOptions, ServerTls
from builder.triton.advisories import Advisory
from builder.triton.connection import Access
from builder.types import Endpoints

__all__ = ["LAUNCHERS", "LaunchOptions", "Launcher", "Server", "ServerTls"]


class Server(Protocol):
    endpoints: Endpoints
    name: str
    """The name that `build-repo stop --name` takes for a detached server; empty where there is none."""
    is_detached: bool
    """Whether it goes on when the process that launched it ends."""
    is_restricted: bool
    """Whether model control and the like are closed to all who have no key."""
    access: Access | None
    """How this machine has it load other versions; None where that takes a key that nobody knows."""
    advisories: tuple[Advisory, ...]
    """Published holes that others than this machine's own users can use, the worst first."""

    def wait(self) -> int:
        """Block until the server ends; its exit status."""

    def is_live(self) -> bool:
        """Whether it answers."""

    def served(self, name: str) -> tuple[int, ...]:
        """The versions of a model that it serves now; none for a model that it does not. Raises OSError."""

    def stop(self) -> None:
        """Let requests in flight be answered, then end the server and all it started; a detached one goes on."""


class Launcher(Protocol):
    OPTIONS: type[Any]
    """A frozen dataclass, all of whose fields have defaults: what this launcher takes beside LaunchOptions. `serve` has
    an option for each, which it spells by the field's name. Its metadata has `help`, and may have `metavar`, `letter`
    and `min`. A field of two launchers is one option, which is refused with all others.
    """
    LISTED_BY: str
    """The command by which a user finds its detached servers; empty where it has none."""

    def launch(self, repository: Path, options: LaunchOptions, own: Any = None) -> Server:
        """Start a server; back when every model is ready. `own` is one of OPTIONS; None: as it is by default.

        Raises LaunchError.
        """

    def stop(self, repository: Path | None, name: str | None) -> list[str]:
        """Stop its detached servers, all, or those of a repository or a name; the names. Raises BuilderError."""


LAUNCHERS: dict[str, Launcher] = {"embedded": embedded, "docker": docker}
