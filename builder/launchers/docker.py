"""The real tritonserver in a container of this machine's Docker engine.

The container may write nothing but its temporary folder, has no privileges, and sees one folder of this machine: the
repository, to read. It ends when its launcher does, however that ends: the launcher holds the container's standard
input, and a server whose input closes drains and stops. A detached one goes on until `build-repo stop`.
"""

from __future__ import annotations

import collections
import secrets
import sys
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.containers import resolving
from builder.containers.resolving import Resolved
from builder.errors import EngineError, ImageError, LaunchError, ModelLoadError
from builder.launchers import access, docker_settings, ports
from builder.launchers.cabinet import Cabinet
from builder.launchers.certificates import require_usable
from builder.launchers.docker_settings import (
    LAUNCH_LABEL,
    REPOSITORY_LABEL,
    ContainerOptions,
    Wanted,
    require_sense,
    user_of,
)
from builder.machine import docker, hardware
from builder.repository import lock
from builder.repository.served import Served, read_repository
from builder.triton.connection import Access
from builder.triton.control import GRACE_SECONDS, Control, answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.launchers.options import LaunchOptions

OPTIONS: type[Any] = ContainerOptions
LISTED_BY = f"docker ps --filter label={REPOSITORY_LABEL}"
POLL_SECONDS = 0.1
STOP_SECONDS = 2 * GRACE_SECONDS + 10
"""For the linger, the drain, and the server's own wait for its models to unload."""
GONE_SECONDS = 20
KEPT_LINES = 60
OURS = "build-repo: "
# What the server's own first process says of its life, and this launcher, too.
REPEATED = tuple(OURS + word for word in ("starting", "ready", "stopping", "model-repository", "published", "Triton "))


def launch(repository: Path, options: LaunchOptions, own: ContainerOptions | None = None) -> ContainerServer:
    """Raises LaunchError, EngineError, ImageError."""
    own = own or ContainerOptions()
    models = read_repository(repository, LaunchError)
    if options.verify_integrity:
        lock.require_intact(repository)
    if options.tls:
        require_usable(options.tls)
    require_sense(own)
    server = _chosen(models, options, own)
    try:
        server.start()
        server.wait_until_ready()
    except BaseException:
        server.discard()
        raise
    return server


def _chosen(models: list[Served], options: LaunchOptions, own: ContainerOptions) -> ContainerServer:
    """A container that is not created yet, of an image that is on this machine."""
    client = docker.connect()
    try:
        image = _image(client, models, options, own)
        options.judge(models[0].asked.repository, image.triton)
        options = _with_key(access.judged(options, image.triton))
        return ContainerServer(client, Wanted(secrets.token_hex(8), models, image, options, own, ports.choose(options)))
    except BaseException:
        client.close()
        raise


def _with_key(options: LaunchOptions) -> LaunchOptions:
    """Where this process is to have the server load models; otherwise the container makes one up, and tells nobody."""
    if not options.watch or options.admin_key or options.restrict is False:
        return options
    return replace(options, admin_key=secrets.token_urlsafe(32))


def _image(client: Any, models: list[Served], options: LaunchOptions, own: ContainerOptions) -> Resolved:
    _require_local(client)
    gpu = hardware.gpu() if any(model.needs_gpu for model in models) else None
    return resolving.resolve(
        client, models, own.image, gpu, lambda step: options.progress(f"image: {step}"), options.report
    )


def _require_local(client: Any) -> None:
    # An engine mounts folders of the machine that it runs on.
    if "unix" not in str(client.api.base_url) and "localhost" not in str(client.api.base_url):
        raise LaunchError(
            "the Docker engine is on another machine, which does not see this repository; bake it into an image with "
            "build-repo image --bake, and run that there"
        )


class ContainerServer:
    """A running container."""

    is_restricted: bool

    def __init__(self, client: Any, wanted: Wanted) -> None:
        """A container that is not created yet: `start` does."""
        self._client, self._wanted = client, wanted
        self.name, self.is_detached = wanted.name, wanted.own.detach
        self.is_restricted = wanted.options.restrict is not False  # the bridge that it is in has other containers, too
        self.advisories = access.open_advisories(wanted.options)
        self.endpoints = ports.endpoints(wanted.options, wanted.ports)
        self._control = Control(self.endpoints.http)
        key = wanted.options.admin_key
        self.access: Access | None = access.own(self.endpoints, key) if key or not self.is_restricted else None
        self._lines: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
        self._speaks = wanted.options.verbose
        self._status: list[int] = []
        """Its exit status, once it has ended."""
        self._input: Any = None
        self._log: Any = None
        self._cabinet = Cabinet(wanted.launch)
        self._threads: list[threading.Thread] = []
        """One reads the log, one waits for the end."""

    def start(self) -> None:
        from docker.errors import APIError

        try:
            container = self._created()
            if not self.is_detached:  # held open until this process ends, however it does
                self._input = self._client.api.attach_socket(container.id, {"stdin": 1, "stream": 1})
            # All is in place before it starts: one that ends at once is missed by whoever looks later.
            self._log = container.attach(stdout=True, stderr=True, stream=True, logs=True)
            self._follow(lambda: self._read(self._log))
            self._follow(lambda: self._status.append(container.wait(condition="next-exit")["StatusCode"]))
            container.start()
        except (APIError, OSError) as error:
            raise self._refusal(str(getattr(error, "explanation", None) or error)) from None

    def _created(self) -> Any:
        arguments = docker_settings.command(self._wanted, self._cabinet)
        settings = docker_settings.settings(self._wanted, self._cabinet, user_of(self._client))
        return self._client.containers.create(self._wanted.image.reference, arguments, **settings)

    def _follow(self, work: Callable[[], object]) -> None:
        def quietly() -> None:
            with suppress(Exception):  # the engine went away: what it said until then is all there is
                work()

        thread = threading.Thread(target=quietly, daemon=True)
        thread.start()
        self._threads.append(thread)

    def wait_until_ready(self) -> None:
        # Triton opens the port of the metrics last.
        while not (self._control.is_ready() and answers(self.endpoints.metrics)):
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
        if self.is_detached and self._speaks:
            self._close()
            return
        self._speaks = self._wanted.options.verbose
        self.discard()

    def discard(self) -> None:
        """By the label, since Ctrl-C may come before the engine has told the container's id."""
        try:
            own = {"label": f"{LAUNCH_LABEL}={self._wanted.launch}"}
            for container in self._client.containers.list(all=True, ignore_removed=True, filters=own):
                stop_container(self._client, container.id)  # by its id: the name may be another one's
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

    def is_live(self) -> bool:
        return self._control.is_live()

    def served(self, name: str) -> tuple[int, ...]:
        return self._control.served(name)

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
            return ImageError(f"{self._wanted.image.reference} is gone from this machine meanwhile: {reason}")
        return EngineError(f"the engine refused to run {self._wanted.image.reference}: {reason}")


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
            container.remove(force=True)  # a detached one stays when it has stopped
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


def stop(repository: Path | None, name: str | None) -> list[str]:
    """Stop the containers of a repository, that of a name, or all of ours; their names. Raises EngineError."""
    label = REPOSITORY_LABEL if repository is None else f"{REPOSITORY_LABEL}={repository.absolute()}"
    with closing(docker.connect()) as client:
        found = client.containers.list(all=True, ignore_removed=True, filters={"label": label})
        stopped = [one for one in found if name in (None, one.name) and stop_container(client, one.id)]
    for one in stopped:
        Cabinet(one.labels[LAUNCH_LABEL]).clear()
    return sorted(one.name for one in stopped)
