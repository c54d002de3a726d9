"""What a container of a server is created with: its command, its limits, and what it sees of this machine."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.containers import context
from builder.containers.order import USER
from builder.containers.resolving import Resolved
from builder.errors import LaunchError
from builder.launchers import access
from builder.launchers.cabinet import Cabinet
from builder.machine import docker
from builder.repository.served import Served
from builder.triton.releases import HEALTH

if TYPE_CHECKING:
    from builder.launchers.options import LaunchOptions

MODELS = "/models"
PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
"""Inside; outside they are what was chosen on this machine."""
REPOSITORY_LABEL = "build-repo.repository"
LAUNCH_LABEL = "build-repo.launch"
MEMORY = re.compile(r"\d+[bkmg]?", re.ASCII | re.IGNORECASE)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]+", re.ASCII)
MIB = 1024 * 1024
NANOSECONDS = 10**9
SHARED_MEMORY_MIB = 1024
SHARED_MEMORY_MIB_A_MODEL = 256
"""Of /dev/shm, of which Docker gives 64 MiB by itself: too little for the workers of a few models."""
# Where what models unpack is written. Nothing there can be executed.
TEMPORARY = "rw,nosuid,nodev,noexec,size=256m,mode=1777"


@dataclass(frozen=True)
class ContainerOptions:
    """What a container takes beside what every server does."""

    image: str | None = field(
        default=None,
        metadata={"help": "what serves. Default: NVIDIA's that fits the repository.", "metavar": "IMAGE"},
    )
    name: str | None = field(default=None, metadata={"help": "of the container.", "metavar": "NAME"})
    detach: bool = field(
        default=False, metadata={"help": "return when it is ready; see build-repo stop.", "letter": "d"}
    )
    memory: str | None = field(default=None, metadata={"help": "at most, such as 4g.", "metavar": "SIZE"})
    cpus: float | None = field(default=None, metadata={"help": "at most.", "min": 0.01})


@dataclass(frozen=True)
class Wanted:
    """A container that is to be created."""

    launch: str
    """The label's value that tells this container, and its files, from those of another of the same name."""
    models: list[Served]
    image: Resolved
    options: LaunchOptions
    own: ContainerOptions
    ports: dict[str, int]
    """On this machine, of http, grpc and metrics."""

    @property
    def repository(self) -> Path:
        return self.models[0].repository.absolute()

    @property
    def name(self) -> str:
        return self.own.name or default_name(self.repository)

    @property
    def needs_gpu(self) -> bool:
        return any(model.needs_gpu for model in self.models)


def require_sense(own: ContainerOptions) -> None:
    """Before anything is pulled for it. Raises LaunchError."""
    if own.memory and not MEMORY.fullmatch(own.memory):
        raise LaunchError(f"{own.memory!r} is no size of memory; write it like 512m or 4g")
    if own.name and not NAME.fullmatch(own.name):
        raise LaunchError(f"{own.name!r} cannot be a container's name; use letters, digits, _ . and -")


def default_name(repository: Path) -> str:
    """The same for a repository every time, so that it is found again, and not served twice by mistake."""
    return f"build-repo-{hashlib.sha256(os.fsencode(repository)).hexdigest()[:10]}"


def command(wanted: Wanted, cabinet: Cabinet) -> list[str]:
    """Of the image's first process, which takes what `build-repo serve` takes. Secrets go into the cabinet."""
    options = wanted.options
    arguments = ["--repository", MODELS]
    # In the container's own network, every address is reached by published ports alone.
    arguments += ["--host", "0.0.0.0", "--http-host", "0.0.0.0", "--metrics-host", "0.0.0.0"]
    arguments += [part for name, port in PORTS.items() for part in (f"--{name}-port", str(port))]
    arguments += ["--verbose"] if options.verbose else []
    arguments += [] if wanted.own.detach else ["--until-input-closes"]
    arguments += ["--unrestricted"] if options.restrict is False else []
    arguments += _secrets(options, cabinet)
    if wanted.image.kind == "slim":
        return [*arguments, "--no-check"]  # it has been checked here, unless that was not wanted
    arguments += [] if options.verify_integrity else ["--no-check"]
    if not wanted.image.kind:  # not an image of ours: it lacks the first process
        return ["python3", cabinet.first_process(), *arguments]
    return arguments


def _secrets(options: LaunchOptions, cabinet: Cabinet) -> list[str]:
    """By files that the container alone can read: what it is started with, the engine shows."""
    arguments: list[str] = []
    if options.admin_key:
        arguments += ["--admin-key-file", cabinet.put("admin-key", options.admin_key.encode())]
    if options.tls:
        arguments += ["--tls-cert", cabinet.copy("tls.crt", options.tls.certificate)]
        arguments += ["--tls-key", cabinet.copy("tls.key", options.tls.key)]
        if options.tls.client_ca:
            arguments += ["--tls-client-ca", cabinet.copy("clients.crt", options.tls.client_ca)]
    return arguments


def settings(wanted: Wanted, cabinet: Cabinet, user: str) -> dict[str, Any]:
    """Arguments of the SDK's `containers.create`. Call it after `command`, which fills the cabinet."""
    return {
        "name": wanted.name,
        "labels": {REPOSITORY_LABEL: str(wanted.repository), LAUNCH_LABEL: wanted.launch},
        **_isolation(wanted, cabinet, user),
        **_limits(wanted),
        **_lifetime(wanted.own.detach),
    }


def _isolation(wanted: Wanted, cabinet: Cabinet, user: str) -> dict[str, Any]:
    """It writes nothing but its temporary folder, and reads nothing but the repository and its secrets."""
    from docker.types import Mount

    hosts = vars(access.addresses(wanted.options))  # plain HTTP stays on this machine where the embedded server's would
    models = Mount(MODELS, str(wanted.repository), type="bind", read_only=True)
    return {
        "mounts": [models, *cabinet.mounts(user)],
        "ports": {f"{PORTS[name]}/tcp": (hosts[name], port) for name, port in wanted.ports.items()},
        "user": user,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "read_only": True,
        "tmpfs": {"/tmp": TEMPORARY},
    }


def _limits(wanted: Wanted) -> dict[str, Any]:
    from docker.types import DeviceRequest, Ulimit

    shared = max(SHARED_MEMORY_MIB, SHARED_MEMORY_MIB_A_MODEL * len(wanted.models) * 2)
    ulimits = {"stack": 64 * MIB} | ({"memlock": -1} if wanted.needs_gpu else {})  # as NVIDIA asks for
    gpus = [DeviceRequest(count=-1, capabilities=[["gpu"]])]
    return {
        "shm_size": shared * MIB,
        "ulimits": [Ulimit(name=name, soft=limit, hard=limit) for name, limit in ulimits.items()],
        "pids_limit": 4096,
        "mem_limit": wanted.own.memory,
        "nano_cpus": int(wanted.own.cpus * NANOSECONDS) if wanted.own.cpus else None,
        "device_requests": gpus if wanted.needs_gpu else None,
    }


def _lifetime(detach: bool) -> dict[str, Any]:
    """A detached one is started again when it fails, and stays to be looked at; others leave nothing behind."""
    from docker.types import LogConfig

    health = {"test": ["CMD", *HEALTH], "interval": 5 * NANOSECONDS, "timeout": 5 * NANOSECONDS, "retries": 3}
    return {
        "healthcheck": health | {"start_period": context.START_SECONDS * NANOSECONDS},
        "log_config": LogConfig(type="json-file", config={"max-size": "10m", "max-file": "3"}),
        "stop_signal": "SIGTERM",
        "stdin_open": not detach,
        "auto_remove": not detach,
        "restart_policy": {"Name": "on-failure", "MaximumRetryCount": 5} if detach else None,
    }


def user_of(client: Any) -> str:
    """UID:GID in the container: the caller's own, who can read the repository; never root's."""
    if docker.is_rootless(client):
        return "0:0"  # the caller itself, there
    return f"{os.getuid()}:{os.getgid()}" if os.getuid() else f"{USER}:{USER}"
