"""What every launcher is told of the server to start. What one takes beside it is its own OPTIONS."""

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
class NoOptions:
    """The OPTIONS of a launcher that takes nothing beside what every server does."""


@dataclass(frozen=True)
class LaunchOptions:
    """Addresses are host names or IP addresses; a port of 0 is any free one."""

    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    verbose: bool = False
    tls: ServerTls | None = None
    """Certificates for gRPC. Triton's HTTP has no TLS, and stays on loopback beside it."""
    admin_key: str | None = field(default=None, repr=False)
    """What opens the restricted endpoints, see `access`."""
    restrict: bool | None = None
    """Whether the restricted endpoints are closed; None: beyond loopback, or where there is a key."""
    metrics_host: str | None = None
    """Address of the metrics; None: where HTTP is."""
    verify_integrity: bool = True
    """Whether every file of the repository must have the digest that its lock records."""
    http_host: str | None = None
    """None: `host`, but loopback beside TLS, and where the server has published holes. See `access.addresses`."""
    watch: bool = False
    """Whether this process will have the server load what is published later."""
    triton: str | None = None
    """The server's version, which its launcher knows; None: not known."""
    progress: Callable[[str], None] = lambda _: None
    """Called with what is done before the server can start, `WHAT: STEP`, such as having an image on this machine."""
    report: Callable[[str], None] = lambda _: None
    """Called with what the user should know before the server starts."""
    judge: Callable[[Path, str | None], None] = lambda *_: None
    """Called with what the server will read, and the server's version where it is known, before it starts; it raises
    where that server would refuse it."""
    warn: Callable[[str], None] = lambda _: None
    """Called with what is open in the server to attackers."""
