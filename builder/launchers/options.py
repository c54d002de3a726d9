"""What a launcher is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class ServerTls:
    """PEM files. With a `client_ca`, clients must show a certificate of that authority."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True)
class ContainerOptions:
    """What a container takes beside what every server does."""

    image: str | None = None
    """None: NVIDIA's that fits the repository, with what its preprocessing needs."""
    name: str | None = None
    detach: bool = False
    """Whether it goes on when its launcher ends."""
    memory: str | None = None
    """Such as 4g."""
    cpus: float | None = None
    steps: Callable[[str], None] = lambda _: None
    """Told what is done to have the image on this machine."""


@dataclass(frozen=True)
class LaunchOptions:
    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    verbose: bool = False
    tls: ServerTls | None = None
    """Of gRPC. Triton's HTTP has none, and then stays on loopback."""
    admin_key: str | None = field(default=None, repr=False)
    """What opens the restricted endpoints, see `access`."""
    restrict: bool | None = None
    """None: beyond loopback, or where there is a key."""
    metrics_host: str | None = None
    """None: where HTTP is."""
    check: bool = True
    """Whether the repository must be what its lock records."""
    http_host: str | None = None
    """None: `host`, but loopback beside TLS, and where the server has published holes. See `access.addresses`."""
    triton: str | None = None
    """The server's version, which its launcher knows; None: not known."""
    container: ContainerOptions = ContainerOptions()
    report: Callable[[str], None] = lambda _: None
    """Told what the user should know before the server starts."""
    warn: Callable[[str], None] = lambda _: None
    """Told what is open in it to attackers."""
