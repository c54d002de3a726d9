"""What a gateway is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024


@dataclass(frozen=True)
class Settings:
    model: str | None = None
    """Asked when a request names none; without it, the only one there is of the route's task."""
    max_bytes: int = 20 * MIB
    """Of one encoded image."""
    concurrency: int = 32
    """Requests at Triton at a time."""
    queue: int = 128
    """Requests that wait for their turn; more are refused."""
    body_timeout: float = 30.0
    """Seconds that a request's body may take to arrive, or its answer to be read."""
    header_timeout: float = 10.0
    """Seconds that a request's headers may take to arrive."""
    api_key: str | None = None


@dataclass(frozen=True)
class Listening:
    """Where it is served."""

    host: str = "127.0.0.1"
    port: int = 8080
    certificate: Path | None = None
    key: Path | None = None
    drain: float = 0.0
    """Seconds between not being ready any more and taking no more connections, for load balancers to notice."""
