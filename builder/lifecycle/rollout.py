"""Running servers, one after the other, to what a repository has published. See docs/rollout.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from builder.triton.connection import Access
from builder.types import Report


@dataclass(frozen=True)
class RolloutOptions:
    models: tuple[str, ...] = ()
    """Names that clients ask; none: all that are published."""
    max_slowdown: float | None = None
    """How many times as long as the old version's the new version's answers may take; None: not looked at."""
    trial: str = "server"
    """Where a candidate is tried: `server`, beside what serves; `process`, a server of its own on this machine."""
    timeout: float = 300.0
    """Seconds for each load."""
    keep_loaded: bool = False
    """Whether the old version stays loaded, for a rollback at once."""
    parallel: int = 1
    """Servers at a time."""


@dataclass(frozen=True)
class Change:
    """One model on one server."""

    model: str
    before: int | None
    """The version that served; None: none did."""
    after: int
    seconds: float


@dataclass(frozen=True)
class Result:
    """What became of one server."""

    url: str
    changes: tuple[Change, ...] = field(default=())
    """Empty: it served what is published already."""


def roll_out(
    repository: Path, servers: Sequence[Access], options: RolloutOptions, report: Report = lambda _: None
) -> list[Result]:
    """Bring the servers to what the repository has published. Raises RolloutError, RepositoryError.

    The first failure ends it; that server serves what it served before, and the servers after it are not touched.
    """
    raise NotImplementedError
