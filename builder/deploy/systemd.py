"""Units for one machine that has systemd: the embedded server over a repository, and the gateway before it."""

from __future__ import annotations

import ipaddress
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.deploy import units
from builder.deploy.files import render as _render
from builder.errors import DeployError

if TYPE_CHECKING:
    from builder.repository.served import Served

PROGRAMS = ("build-repo", "repo-client")
CONFIGURATION = "/etc/build-repo"
SERVER = "triton-repository.service"
GATEWAY = "triton-gateway.service"
# What ProtectHome= and PrivateTmp= hide.
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
# `build-repo serve` drains for 30 s at most; then the guard gives the server 35 s before it ends it.
SERVER_STOP_SECONDS = 90
# What the gateway gives requests in flight, and some more.
GATEWAY_STOP_SECONDS = 75
LAST_RESERVED_PORT = 1023
LEAST_CPUS = 0.01
USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
MEMORY = re.compile(r"[1-9]\d*[KMGT]?|[1-9]\d?%")
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
LOOPBACK_NAMES = ("localhost",)


@dataclass(frozen=True)
class Gateway:
    """Paths are those of the machine that it will run on, read by systemd as root."""

    model: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    drain: int = 0
    """Seconds of `repo-client gateway --drain`."""
    api_key: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class Environment:
    """What the programs are in: `prefix`/bin, and what they read besides, such as their Python."""

    prefix: Path
    readable: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Ports:
    http: int = 8000
    grpc: int = 8001
    metrics: int = 8002


@dataclass(frozen=True)
class Options:
    """Paths are absolute, and those of the machine that it will run on."""

    repository: Path
    environment: Environment
    target: Path | None = None
    """Where the repository is, if its path is a symbolic link."""
    user: str | None = None
    """None: one that systemd makes up while the service runs."""
    host: str = "127.0.0.1"
    ports: Ports = Ports()
    admin_key: Path | None = None
    memory: str | None = None
    cpus: float | None = None
    gpu: bool | None = None
    """None: as the repository's models need."""
    allow_from: tuple[str, ...] = ()
    """Addresses or networks besides loopback that may connect; none: any, where a host is beyond loopback."""
    gateway: Gateway | None = Gateway()


def this_environment(readable: tuple[Path, ...] = ()) -> Environment:
    """The one that this runs in. Raises DeployError where it has no programs."""
    prefix = Path(sys.prefix)
    for name in PROGRAMS:
        if not (prefix / "bin" / name).is_file():
            raise DeployError(f"{prefix}/bin has no {name}; name the environment that it is installed in with --prefix")
    return Environment(prefix, (Path(sys.base_prefix), Path(__file__).parents[2], *readable))


def render(models: list[Served] | None, options: Options) -> dict[str, str]:
    """Units, their environment files, and how to install them, by file name. Raises DeployError."""
    _check(models, options)
    gpu = options.gpu if options.gpu is not None else any(model.needs_gpu for model in models or ())
    files = {SERVER: _server(options, gpu), "server.env": _server_environment(options)}
    if options.gateway:
        files |= {
            GATEWAY: _gateway(options, options.gateway),
            "gateway.env": _gateway_environment(options, options.gateway),
        }
    if options.user:
        files["build-repo.conf"] = f'u {options.user} - "Serves a Triton model repository"\n'
    return files | {"README.md": _readme(options, sorted(files))}


def _server(options: Options, gpu: bool) -> str:
    return _render(
        f"systemd/{SERVER}",
        environment=f"{CONFIGURATION}/server.env",
        program=units.program(options.environment.prefix / "bin" / "build-repo"),
        repository=units.word(options.repository),
        admin_key=options.admin_key and units.rest(options.admin_key),
        stop_seconds=SERVER_STOP_SECONDS,
        cpus=options.cpus and f"{round(options.cpus * 100)}%",
        gpu=gpu,
        # Beyond loopback the server has a key even if its user has none.
        ptrace=options.admin_key is not None or not _is_loopback(options.host),
        bind_low=_is_low(options.ports.http, options.ports.grpc, options.ports.metrics),
        **_common(options, options.host, options.repository, options.target or options.repository),
    )


def _gateway(options: Options, gateway: Gateway) -> str:
    return _render(
        f"systemd/{GATEWAY}",
        environment=f"{CONFIGURATION}/gateway.env",
        program=units.program(options.environment.prefix / "bin" / "repo-client"),
        model=gateway.model,
        drain=gateway.drain,
        stop_seconds=GATEWAY_STOP_SECONDS + gateway.drain,
        api_key=gateway.api_key and units.rest(gateway.api_key),
        certificate=gateway.certificate and units.rest(gateway.certificate),
        key=gateway.key and units.rest(gateway.key),
        gpu=False,
        ptrace=False,
        bind_low=_is_low(gateway.port),
        **_common(options, gateway.host),
    )


def _common(options: Options, host: str, *paths: Path) -> dict[str, Any]:
    """What the hardening of both depends on."""
    beyond = not _is_loopback(host)
    environment = options.environment
    hidden = {path for path in (environment.prefix, *environment.readable, *paths) if _is_hidden(path)}
    return {
        "user": options.user,
        "memory": options.memory,
        "network": "network-online.target" if beyond else "network.target",
        "visible": [units.bound(path) for path in sorted(hidden)],
        "allow": " ".join(_allowed(options)) if options.allow_from or not beyond else "",
    }


def _allowed(options: Options) -> list[str]:
    """Both services reach the server by its own address."""
    own = [] if _is_loopback(options.host) or options.host in ANY_ADDRESS else [options.host]
    return ["localhost", *own, *options.allow_from]


def _server_environment(options: Options) -> str:
    lines = (
        units.variable("SERVE_REPOSITORY", options.repository),
        units.variable("SERVE_HOST", options.host),
        units.variable("SERVE_HTTP_PORT", options.ports.http),
        units.variable("SERVE_GRPC_PORT", options.ports.grpc),
        units.variable("SERVE_METRICS_PORT", options.ports.metrics),
    )
    return _render("systemd/server.env", lines=lines)


def _gateway_environment(options: Options, gateway: Gateway) -> str:
    host = ANY_ADDRESS.get(options.host, options.host)
    address = f"[{host}]" if ":" in host else host
    lines = [
        units.variable("GATEWAY_URL", f"{address}:{options.ports.grpc}"),
        units.variable("GATEWAY_HOST", gateway.host),
        units.variable("GATEWAY_PORT", gateway.port),
    ]
    lines += [units.variable("GATEWAY_MODEL", gateway.model)] if gateway.model else []
    return _render("systemd/gateway.env", lines=lines)


def _readme(options: Options, files: list[str]) -> str:
    secrets = [options.admin_key]
    if options.gateway:
        secrets += [options.gateway.api_key, options.gateway.key]
    return _render(
        "systemd/README.md",
        units=[name for name in files if name.endswith(".service")],
        environments=[name for name in files if name.endswith(".env")],
        folder=CONFIGURATION,
        user=options.user,
        beyond=not _is_loopback(options.host),
        secrets=[str(path) for path in secrets if path],
    )


def _check(models: list[Served] | None, options: Options) -> None:
    checks = (_path_problems(options), _port_problems(options), _limit_problems(options), _network_problems(options))
    for problem in chain(*checks, _gateway_problems(models, options)):
        raise DeployError(problem)


def _path_problems(options: Options) -> Iterator[str]:
    before = options.gateway or Gateway()
    paths = (options.repository, options.environment.prefix, *options.environment.readable)
    for path in (*paths, options.admin_key, before.api_key, before.certificate, before.key):
        if path is not None and not path.is_absolute():
            yield f"{path} is relative, and a service has no folder of its own; give the whole path"


def _port_problems(options: Options) -> Iterator[str]:
    ports = [options.ports.http, options.ports.grpc, options.ports.metrics]
    ports += [options.gateway.port] if options.gateway else []
    if 0 in ports:
        yield "a service needs ports that stay; give another than 0"
    if twice := {port for port in ports if ports.count(port) > 1}:
        yield f"port {min(twice)} is given twice; each of server and gateway needs its own"


def _limit_problems(options: Options) -> Iterator[str]:
    if options.user and not USER.fullmatch(options.user):
        yield f"{options.user!r} is no name for a system user; give one such as triton with --user"
    if options.memory and not MEMORY.fullmatch(options.memory):
        yield f"{options.memory!r} is no limit for memory; give one such as 8G, 512M or 75% with --memory"
    if options.cpus is not None and not LEAST_CPUS <= options.cpus < math.inf:
        yield f"{options.cpus} is no number of cores; give one such as 2 or 1.5 with --cpus"


def _network_problems(options: Options) -> Iterator[str]:
    for network in options.allow_from:
        if not _is_network(network):
            yield f"{network!r} is no address or network; give one such as 10.0.0.0/8 with --allow-from"
    if options.allow_from and not _is_network(options.host) and not _is_loopback(options.host):
        yield f"--allow-from needs the server's own address; give it in place of {options.host} with --host"


def _gateway_problems(models: list[Served] | None, options: Options) -> Iterator[str]:
    gateway = options.gateway or Gateway()
    if (gateway.certificate is None) != (gateway.key is None):
        yield "give both --gateway-tls-cert and --gateway-tls-key, or neither"
    names = [model.name for model in models or ()]
    if gateway.model and models is not None and gateway.model not in names:
        yield f"{options.repository} has no model {gateway.model}; choose {', '.join(names)} with --gateway-model"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK_NAMES


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _is_low(*ports: int) -> bool:
    return any(port <= LAST_RESERVED_PORT for port in ports)


def _is_hidden(path: Path) -> bool:
    return any(path.is_relative_to(place) for place in HIDDEN)
