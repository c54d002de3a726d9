"""A stack for Docker Swarm: replicas of the server, and a proxy that spreads requests over those that are ready."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from builder.deploy import sizing
from builder.deploy.files import render as render_template
from builder.deploy.image import pinned
from builder.errors import DeployError
from builder.repository.served import Served, digest
from builder.triton.releases import HEALTH

STACK, PROXY = "stack.yml", "haproxy.cfg"
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
LINGER_SECONDS = 5
"""After SIGTERM a replica serves on, until the proxy, which looks every second, sends it nothing more."""
GRACE_SECONDS = LINGER_SECONDS + sizing.STOP_SECONDS + 5
"""Before the engine kills."""


@dataclass(frozen=True)
class Options:
    image: str
    name: str = "triton"
    replicas: int = 2
    repository_path: str | None = None
    """Of the repository on every node; None: it is in the image."""
    proxy_image: str = "haproxy:3.2-alpine"
    http_port: int | None = None
    """Published on every node; None: reached in the stack's own network alone."""
    grpc_port: int | None = None
    tls_secret: str | None = None
    """Swarm secret with certificate and key, in one PEM; the proxy then speaks TLS alone."""
    admin_secret: str | None = None
    cpus: float | None = None
    memory_mib: int | None = None
    gpus: int = 1
    """Of a replica, where it needs any."""


def render(models: Sequence[Served], options: Options) -> dict[str, str]:
    """Raises DeployError."""
    _check(options)
    # Twice the replicas, since each new one begins before its predecessor ends.
    proxy = render_template("swarm/haproxy.cfg", options=options, slots=2 * options.replicas + 2)
    stack = render_template(
        "swarm/stack.yml",
        options=options,
        models=[f"{model.name}/{model.version}" for model in models],
        digest=digest(models),
        needs_gpu=any(model.needs_gpu for model in models),
        health=HEALTH,
        cpus=options.cpus or sizing.cpus(models),
        memory_mib=options.memory_mib or sizing.mebibytes(sizing.memory_bytes(models)),
        shared_memory=sizing.shared_memory_bytes(models),
        start_seconds=sizing.startup_seconds(models),
        linger=LINGER_SECONDS,
        grace=GRACE_SECONDS,
        # Swarm's configs never change, so that another text is another config.
        proxy_digest=hashlib.sha256(proxy.encode()).hexdigest()[:12],
    )
    return {STACK: stack, PROXY: proxy}


def _check(options: Options) -> None:
    pinned(options.image)
    pinned(options.proxy_image)
    if not NAME.fullmatch(options.name):
        raise DeployError(f"{options.name!r} cannot be a stack's name; use lower-case letters, digits and -")
    if options.repository_path is not None and not options.repository_path.startswith("/"):
        raise DeployError(f"{options.repository_path!r} is not the path of a folder on every node; begin it with /")
    if options.http_port and options.http_port == options.grpc_port:
        raise DeployError(f"port {options.http_port} is given twice; publish HTTP and gRPC at two")
    if options.tls_secret and not (options.http_port or options.grpc_port):
        raise DeployError("--tls-secret is for published ports; give --publish-http or --publish-grpc, too")
