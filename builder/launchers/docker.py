"""The real tritonserver in a container of this machine's Docker engine.

The container may write nothing but its temporary folder, has no privileges, and sees one folder of this machine: the
repository, to read. It ends when its launcher does, however that ends: the launcher holds the container's standard
input, and a server whose input closes drains and stops. A detached one goes on until `build-repo stop`.
"""

from __future__ import annotations

import collections
import hashlib
import os
import re
import secrets
import sys
import threading
import time
import urllib.error
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.containers import context, resolving
from builder.containers.order import USER
from builder.containers.resolving import Resolved
from builder.errors import EngineError, ImageError, LaunchError, ModelLoadError
from builder.launchers import access, cabinet, embedded
from builder.launchers.certificates import require_usable
from builder.launchers.embedded import DIRECT, GRACE_SECONDS, POLL_SECONDS, choose_ports
from builder.machine import docker, hardware
from builder.repository import lock
from builder.repository.served import Served, read_repository
from builder.triton.releases import HEALTH

if TYPE_CHECKING:
    from builder.launchers.options import ContainerOptions, LaunchOptions

MODELS = "/models"
PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
REPOSITORY_LABEL = "build-repo.repository"
LAUNCH_LABEL = "build-repo.launch"
STOP_SECONDS = 2 * GRACE_SECONDS + 10
"""For the linger, the drain, and the server's own wait for its models to unload."""
GONE_SECONDS = 20
KEPT_LINES = 60
MEMORY = re.compile(r"\d+[bkmg]?", re.ASCII | re.IGNORECASE)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]+", re.ASCII)
OURS = "build-repo: "
# What the server's own first process says of its life, and this launcher, too.
REPEATED = tuple(OURS + word for word in ("starting", "ready", "stopping", "model-repository", "published", "Triton "))
MIB = 1024 * 1024
SHARED_MEMORY_MIB = 1024
SHARED_MEMORY_MIB_A_MODEL = 256
TEMPORARY = "rw,nosuid,nodev,noexec,size=256m,mode=1777"


def launch(repository: Path, options: LaunchOptions) -> ContainerServer:
    """Raises LaunchError, EngineError, ImageError."""
    models = read_repository(repository, LaunchError)
    if options.check:
        lock.require_intact(repository)
    if options.tls:
        require_usable(options.tls)
    _require_sense(options.container)
    client = docker.connect()
    try:
        image = _image(client, models, options)
        server = ContainerServer(client, models, image, access.judged(options, image.triton))
    except BaseException:
        client.close()
        raise
    try:
        server.start()
        server.wait_until_ready()
    except BaseException:
        server.discard()
        raise
    return server


def _image(client: Any, models: list[Served], options: LaunchOptions) -> Resolved:
    _require_local(client)
    gpu = hardware.gpu() if any(model.needs_gpu for model in models) else None
    wanted = options.container
    return resolving.resolve(client, models, wanted.image, gpu, wanted.steps, options.report)


def _require_sense(wanted: ContainerOptions) -> None:
    """Before anything is pulled for it."""
    if wanted.memory and not MEMORY.fullmatch(wanted.memory):
        raise LaunchError(f"{wanted.memory!r} is no size of memory; write it like 512m or 4g")
    if wanted.name and not NAME.fullmatch(wanted.name):
        raise LaunchError(f"{wanted.name!r} cannot be a container's name; use letters, digits, _ . and -")


def _require_local(client: Any) -> None:
    if "unix" not in str(client.api.base_url) and "localhost" not in str(client.api.base_url):
        raise LaunchError(
            "the Docker engine is on another machine, which does not see this repository; bake it into an image with "
            "build-repo image --bake, and run that there"
        )


class ContainerServer:
    """A running container."""

    is_restricted: bool

    def __init__(self, client: Any, models: list[Served], image: Resolved, options: LaunchOptions) -> None:
        self._client, self._models, self._image, self._options = client, models, image, options
        self._repository = models[0].repository.absolute()
        self._detach = options.container.detach
        self.is_restricted = options.restrict is not False  # the bridge that it is in has other containers, too
        self.advisories = access.open_advisories(options)
        self.name = options.container.name or default_name(self._repository)
        ports = choose_ports(options)
        # Plain HTTP stays on this machine where the embedded server's would.
        self._hosts = vars(access.addresses(options))
        self._ports = ports
        self.endpoints = embedded.endpoints(options, ports)
        self._lines: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
        self._speaks = options.verbose
        self._status: list[int] = []
        self._input: Any = None
        self._log: Any = None
        self._own = secrets.token_hex(8)
        """The label's value that tells this container, and its files, from those of another of the same name."""
        self._cabinet = cabinet.Cabinet(self._own)
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        from docker.errors import APIError

        try:
            container = self._client.containers.create(self._image.reference, self._command(), **self._settings())
            if not self._detach:
                self._input = self._client.api.attach_socket(container.id, {"stdin": 1, "stream": 1})
            self._log = container.attach(stdout=True, stderr=True, stream=True, logs=True)
            self._follow(lambda: self._read(self._log))
            self._follow(lambda: self._status.append(container.wait(condition="next-exit")["StatusCode"]))
            container.start()
        except (APIError, OSError) as error:
            raise self._refusal(str(getattr(error, "explanation", None) or error)) from None

    def _follow(self, work: Any) -> None:
        def quietly() -> None:
            with suppress(Exception):  # the engine went away: what it said until then is all there is
                work()

        thread = threading.Thread(target=quietly, daemon=True)
        thread.start()
        self._threads.append(thread)

    def wait_until_ready(self) -> None:
        while not self._is_ready():
            if self._status or not self._threads[1].is_alive():
                self._threads[0].join(2)
                raise self._failure()
            time.sleep(POLL_SECONDS)
        self._speaks = True

    def wait(self) -> int:
        self._threads[1].join()
        return self._status[0] if self._status else 1

    def stop(self) -> None:
        """Let requests in flight be answered, then remove the container; a detached one goes on."""
        if self._detach and self._speaks:
            self._close()
            return
        self._speaks = self._options.verbose
        self.discard()

    def discard(self) -> None:
        """By the label, since Ctrl-C may come before the engine has told the container's id."""
        try:
            own = {"label": f"{LAUNCH_LABEL}={self._own}"}
            for container in self._client.containers.list(all=True, ignore_removed=True, filters=own):
                stop_container(self._client, container.id)
            for thread in self._threads:
                thread.join(2)
        finally:
            self._cabinet.clear()
            self._close()

    def _close(self) -> None:
        """All that is open to the engine; of the hijacked ones the SDK closes neither."""
        if self._input is not None:
            opened = self._input._sock
            self._input.close()
            opened.close()
        if self._log is not None:
            with suppress(OSError):
                self._log.close()
        self._client.close()

    def _command(self) -> list[str]:
        options = self._options
        arguments = ["--repository", MODELS]
        # In the container's own network, every address is reached by published ports alone.
        arguments += ["--host", "0.0.0.0", "--http-host", "0.0.0.0", "--metrics-host", "0.0.0.0"]
        arguments += [part for name, port in PORTS.items() for part in (f"--{name}-port", str(port))]
        arguments += ["--verbose"] if options.verbose else []
        arguments += [] if self._detach else ["--until-input-closes"]
        arguments += ["--unrestricted"] if options.restrict is False else []
        if options.admin_key:
            arguments += ["--admin-key-file", self._cabinet.put("admin-key", options.admin_key.encode())]
        if options.tls:
            arguments += ["--tls-cert", self._cabinet.copy("tls.crt", options.tls.certificate)]
            arguments += ["--tls-key", self._cabinet.copy("tls.key", options.tls.key)]
            if options.tls.client_ca:
                arguments += ["--tls-client-ca", self._cabinet.copy("clients.crt", options.tls.client_ca)]
        if self._image.kind == "slim":
            return [*arguments, "--no-check"]  # it has been checked here, unless that was not wanted
        if not self._image.kind:  # not an image of ours: it lacks the first process
            arguments = ["python3", self._cabinet.first_process(), *arguments]
        return arguments

    def _settings(self) -> dict[str, Any]:
        from docker.types import DeviceRequest, LogConfig, Mount, Ulimit

        container = self._options.container
        shared = max(SHARED_MEMORY_MIB, SHARED_MEMORY_MIB_A_MODEL * len(self._models) * 2)
        needs_gpu = any(model.needs_gpu for model in self._models)
        limits = {"stack": 64 * MIB} | ({"memlock": -1} if needs_gpu else {})
        gpus = [DeviceRequest(count=-1, capabilities=[["gpu"]])]
        return {
            "name": self.name,
            "labels": {REPOSITORY_LABEL: str(self._repository), LAUNCH_LABEL: self._own},
            "mounts": [
                Mount(MODELS, str(self._repository), type="bind", read_only=True),
                *self._cabinet.mounts(user_of(self._client)),
            ],
            "ports": {f"{PORTS[name]}/tcp": (self._hosts[name], port) for name, port in self._ports.items()},
            "user": user_of(self._client),
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "read_only": True,
            "tmpfs": {"/tmp": TEMPORARY},
            "shm_size": shared * MIB,
            "ulimits": [Ulimit(name=name, soft=limit, hard=limit) for name, limit in limits.items()],
            "pids_limit": 4096,
            "mem_limit": container.memory,
            "nano_cpus": int(container.cpus * 1e9) if container.cpus else None,
            "device_requests": gpus if needs_gpu else None,
            "healthcheck": {"test": ["CMD", *HEALTH], "interval": 5 * 10**9, "timeout": 5 * 10**9, "retries": 3}
            | {"start_period": context.START_SECONDS * 10**9},
            "log_config": LogConfig(type="json-file", config={"max-size": "10m", "max-file": "3"}),
            "stop_signal": "SIGTERM",
            "stdin_open": not self._detach,
            "auto_remove": not self._detach,
            "restart_policy": {"Name": "on-failure", "MaximumRetryCount": 5} if self._detach else None,
        }

    def is_live(self) -> bool:
        return self._answers("live")

    def _is_ready(self) -> bool:
        return self._answers("ready")

    def _answers(self, question: str) -> bool:
        try:
            with DIRECT.open(f"http://{self.endpoints.http}/v2/health/{question}", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def _read(self, log: Any) -> None:
        """Lines of the server, as they come: the engine cuts its stream anywhere."""
        rest = b""
        for chunk in log:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._hear(line.decode(errors="replace").rstrip())

    def _hear(self, line: str) -> None:
        self._lines.append(line)
        if self._speaks and not line.startswith(REPEATED):
            print(line, file=sys.stderr, flush=True)

    def _failure(self) -> LaunchError:
        """Why the container ended before it was ready: its first process said so, or else the server's last words."""
        status = self._status[0] if self._status else "unknown"
        lines = list(self._lines)
        own = [number for number, line in enumerate(lines) if line.startswith(OURS) and not line.startswith(REPEATED)]
        said = "\n".join(lines[own[-1] :]).removeprefix(OURS) if own else "\n".join(lines[-15:])
        if status == ModelLoadError.exit_code:
            return ModelLoadError(said)
        return LaunchError(f"the container ended with status {status} before the server was ready; it said:\n{said}")

    def _refusal(self, reason: str) -> Exception:
        if docker.lacks_gpu_runtime(reason):
            return LaunchError(f"Docker cannot give a container the GPU: {reason}; {docker.TOOLKIT}")
        if "already allocated" in reason or "address already in use" in reason:
            return LaunchError(f"{reason}; choose another port with --http-port, --grpc-port or --metrics-port")
        if "Conflict" in reason and self.name in reason:
            return LaunchError(
                f"there is a container {self.name} already; stop it with build-repo stop --name {self.name}, or give "
                "this one another --name"
            )
        if "No such image" in reason:
            return ImageError(f"{self._image.reference} is gone from this machine meanwhile: {reason}")
        return EngineError(f"the engine refused to run {self._image.reference}: {reason}")


def user_of(client: Any) -> str:
    """UID:GID in the container: the caller's own, who can read the repository; never root's."""
    if docker.is_rootless(client):
        return "0:0"  # the caller itself, there
    return f"{os.getuid()}:{os.getgid()}" if os.getuid() else f"{USER}:{USER}"


def default_name(repository: Path) -> str:
    """The same for a repository every time, so that it is found again, and not served twice by mistake."""
    return f"build-repo-{hashlib.sha256(os.fsencode(repository)).hexdigest()[:10]}"


def stop_container(client: Any, name: str) -> bool:
    """Drain, stop and remove a container; whether there was one. Raises EngineError."""
    from docker.errors import APIError, NotFound

    try:
        container = client.containers.get(name)
    except NotFound:
        return False
    try:
        container.stop(timeout=STOP_SECONDS)
        with suppress(APIError):  # it may be going by itself
            container.remove(force=True)
        _wait_until_gone(client, container.id)
    except NotFound:
        pass  # gone by itself meanwhile
    except (APIError, OSError) as error:
        raise EngineError(f"the container {name} cannot be stopped: {error}") from None
    return True


def _wait_until_gone(client: Any, name: str) -> None:
    """Raises NotFound as soon as it is."""
    deadline = time.monotonic() + GONE_SECONDS
    while time.monotonic() < deadline:
        client.containers.get(name)
        time.sleep(POLL_SECONDS)


def stop(repository: Path | None = None, name: str | None = None) -> list[str]:
    """Stop the containers of a repository, that of a name, or all of ours; their names. Raises EngineError."""
    label = REPOSITORY_LABEL if repository is None else f"{REPOSITORY_LABEL}={repository.absolute()}"
    with closing(docker.connect()) as client:
        found = client.containers.list(all=True, ignore_removed=True, filters={"label": label})
        stopped = [one for one in found if name in (None, one.name) and stop_container(client, one.id)]
    for one in stopped:
        cabinet.Cabinet(one.labels[LAUNCH_LABEL]).clear()
    return sorted(one.name for one in stopped)
