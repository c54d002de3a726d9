"""The real tritonserver of the nvidia-pytriton wheel, as a child process of this one."""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from builder.errors import LaunchError, ModelLoadError, ServerEnded
from builder.launchers import access, guard, needs, regions, sharing, workers
from builder.launchers.certificates import require_usable
from builder.launchers.compatibility import refuse_unloadable
from builder.launchers.runtime import PYTHON_BACKEND, Runtime, ensembles, make_runtime, outermost
from builder.machine import signals
from builder.repository import layout
from builder.triton import advisories
from builder.types import Endpoints

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.launchers.options import ContainerOptions, LaunchOptions

T = TypeVar("T")
GRACE_SECONDS = 30
POLL_SECONDS = 0.1
STOP_POLL_SECONDS = 0.02
KEPT_LINES = 40
# Importing PyTorch from a cold disk takes a minute on small machines.
STUB_TIMEOUT_SECONDS = 300
# What the server, which is built for CUDA, says on a machine without, at the level of errors.
NO_GPU_REMARKS = (
    "CUDA driver version is insufficient",
    "CudaDriverHelper has not been initialized",
    "no pinned memory pool",
    "Signal (15) received",
)
CAME_OR_WENT = re.compile(
    r"(successfully loaded|successfully unloaded|failed to load) '(.+?)'(?: version \d+)?(?:: (.*))?"
)
LOADED, UNLOADED, FAILED = "successfully loaded", "successfully unloaded", "failed to load"
# Remarks of the log that only --verbose asks for.
INFORMATION = re.compile(r"I\d{4} ")
UNLOAD_SECONDS = 20
# A proxy that the environment names is for the world outside, not for this machine's own server.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
NO_GPU_HINT = "build it with `device: cpu`, or serve it on a machine with an NVIDIA GPU and its driver"
# By what the server's reason holds.
HINTS = {
    "no GPUs are available": NO_GPU_HINT,
    "shared memory": f"others have filled {sharing.FOLDER} meanwhile; make room there, or give it more",
}
UNHIDDEN_HINT = (
    "the server takes the administrator's key as an argument alone, which every user of this machine could then read; "
    "allow ptrace, or serve on loopback behind a proxy, or open all endpoints with --unrestricted"
)
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def launch(repository: Path, options: LaunchOptions) -> EmbeddedServer:
    _require_models(repository)
    _refuse_container(options.container)
    refuse_unloadable(repository)
    if options.tls:
        require_usable(options.tls)
    options = access.judged(options, advisories.EMBEDDED)
    key, ports = access.key_of(options), choose_ports(options)
    server = None
    try:
        with signals.held():  # until the guard has the folder to remove
            runtime = make_runtime(repository, options.check)
            server = EmbeddedServer(repository, runtime, options, ports, key)
        server.wait_until_ready()
    except BaseException:
        if server:
            server.stop()
        raise
    return server


class EmbeddedServer:
    """A running server. A context manager: leaving it stops the server."""

    name = ""

    def __init__(
        self, repository: Path, runtime: Runtime, options: LaunchOptions, ports: dict[str, int], key: str | None = None
    ) -> None:
        self.endpoints = endpoints(options, ports)
        self._key = key
        self.is_restricted = key is not None
        self._snapshot, self._repository = runtime.snapshot, repository
        self._models = runtime.snapshot.folder
        self.advisories = access.open_advisories(options)
        self._is_ready = False
        # While it starts, its reasons are gathered for one message; while it stops, it complains of
        # models that go because they are taken away.
        self._speaks = self._verbose = options.verbose
        self._prefix = f"build-repo-{secrets.token_hex(6)}-"
        self._folder = runtime.folder
        self._remarks = () if has_gpu() else NO_GPU_REMARKS
        self._lines: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
        self._heard: list[tuple[str, str, str]] = []
        """What the log told of models that come and go: what happened, the model's name, and why."""
        self._nurse: workers.Nurse | None = None
        self._sweeper: regions.Sweeper | None = None
        self._grace: float = GRACE_SECONDS
        self._is_maimed = False
        """Whether a worker died: what is left of it may keep the server from ending in order."""
        settings = {
            "shm-region-prefix-name": self._prefix,
            "stub-timeout-seconds": STUB_TIMEOUT_SECONDS,
        }
        command = _command(runtime, options, ports)
        command += [f"--backend-config={PYTHON_BACKEND},{name}={value}" for name, value in settings.items()]
        command += sharing.arguments(needs.of(self._models).workers, sharing.free())
        arguments = [self._prefix, str(self._folder), str(GRACE_SECONDS + 5), *command]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=runtime.environment,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the server
        )
        self._tell_secrets(access.secret_arguments(key))
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _tell_secrets(self, arguments: list[str]) -> None:
        """To the guard, by the pipe that nobody else can read."""
        assert self._process.stdin is not None  # opened as a pipe above
        with contextlib.suppress(BrokenPipeError):  # it ended at once, which is noticed later
            self._process.stdin.write(json.dumps(arguments).encode() + b"\n")
            self._process.stdin.flush()

    def wait_until_ready(self) -> None:
        """Back when all models are ready. Raises LaunchError with the server's own reasons."""
        while not self.is_live():
            if self._process.poll() is not None:
                self._reader.join(1)
                raise self._early_end()
            time.sleep(POLL_SECONDS)
        failed = [model for model in self._index() if model.get("state") != "READY"]
        if failed:
            # An ensemble fails with its steps, and has no reason of its own to tell.
            reasons = {model["name"]: self._reason(model) for model in failed}
            telling = {name: reason for name, reason in reasons.items() if reason} or reasons
            raise ModelLoadError("\n".join(_refusal(name, reason) for name, reason in telling.items()))
        self._nurse = self._hire()
        self._sweeper = regions.Sweeper(self._ask)
        self._is_ready = self._speaks = True

    def _hire(self) -> workers.Nurse | None:
        """None where /proc does not tell which process the server is, or if it has just ended."""
        server = next((child for child in workers.children(self._process.pid) if workers.is_server(child)), None)
        if server is None:
            return None
        own = {folder.name for folder in self._models.iterdir() if folder.is_dir()}
        own -= {folder.name for folder in ensembles(self._models)}  # all others are Python's, in this server
        watch = workers.Watch(workers.Workers(server), own)
        return workers.Nurse(watch, self._revive, self._give_up, self._say)

    def _have_it_told(self) -> int:
        """Have the log tell of models that come and go, whatever others have set; how much of it is old."""
        self._http("/v2/logging", b'{"log_info": true}')
        return len(self._heard)

    def _say(self, message: str) -> None:
        print(f"build-repo: {message}", file=sys.stderr, flush=True)

    def _revive(self, model: str) -> None:
        """Take the model away and bring it back, so that until it is loaded the server says that it is not ready.

        The server polls the folder that this launcher laid out. What is left of the dead worker may stay for ever: if
        a request came to it, its instance does not end. Raises NotRevived.
        """
        self._is_maimed = True
        self._have_it_told()
        away = self._folder / "away"
        away.mkdir(exist_ok=True)
        (self._models / model).rename(away / model)
        try:
            self._wait_for(lambda: None if self._is_served(model) else "gone", UNLOAD_SECONDS)
        finally:
            heard = len(self._heard)
            (away / model).rename(self._models / model)
        what, why = self._wait_for(lambda: self._told(model, heard), STUB_TIMEOUT_SECONDS)
        if what == FAILED:
            raise workers.NotRevived(why)

    def _is_served(self, model: str) -> bool:
        """Whether the server has not noticed yet that it is taken away. Its index, of the folder, tells too early."""
        try:
            self._http(f"/v2/models/{model}/ready")
        except urllib.error.HTTPError:
            return False
        except (OSError, http.client.HTTPException):
            pass
        return True

    def _told(self, model: str, since: int) -> tuple[str, str] | None:
        """What the log told of the model's loading, and why."""
        told = [(what, why) for what, name, why in self._heard[since:] if name == model and what in (LOADED, FAILED)]
        return told[0] if told else None

    def _wait_for(self, look: Callable[[], T | None], seconds: float) -> T:
        """What `look` finds. Raises NotRevived if that is nothing, or when the server is to stop."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None and not self._is_left():
            if (found := look()) is not None:
                return found
            time.sleep(POLL_SECONDS)
        raise workers.NotRevived(f"the server did nothing for {seconds:.0f} s, or was stopped")

    def _is_left(self) -> bool:
        return self._nurse is not None and self._nurse.is_leaving

    def _give_up(self, reason: str, is_stuck: bool) -> None:
        self._grace = guard.HURRIED_SECONDS if is_stuck else GRACE_SECONDS
        self._say(f"{reason}; the server is ended, so that whoever watches it starts it anew")
        self.stop()

    def _early_end(self) -> LaunchError:
        if self._process.returncode == guard.NOT_HIDDEN:
            return LaunchError(f"{self._lines[-1]}; {UNHIDDEN_HINT}")
        return ServerEnded("the server ended before it was ready; it said:\n" + "\n".join(self._lines))

    def wait(self) -> int:
        return self._process.wait()

    def stop(self) -> None:
        if self._nurse:
            self._nurse.leave()
        if self._sweeper:
            self._sweeper.leave()
        try:
            if self._is_ready and self._process.poll() is None:
                self._is_ready = False
                self._speaks = self._verbose
                self._drain()
        except OSError:
            pass  # it died meanwhile, so that there is nothing left to wait for
        finally:
            self._end()

    def _drain(self) -> None:
        """Take away what clients ask, which lets the requests that are inside it through first.

        On its own the server stops all models at once, and a request between two steps of an ensemble fails. It
        polls the folder that this launcher laid out, so that a folder removed is a model unloaded.
        When its last request is through, the log alone tells: the index forgets it with its folder.
        """
        taken, heard = self._folder / "taken", self._have_it_told()
        taken.mkdir()
        names = {folder.rename(taken / folder.name).name for folder in outermost(self._models)}
        deadline = time.monotonic() + self._grace
        while not names <= self._unloaded(heard) and time.monotonic() < deadline and self._process.poll() is None:
            if signals.is_urgent():
                break
            time.sleep(POLL_SECONDS)

    def _unloaded(self, since: int) -> set[str]:
        return {name for what, name, _ in self._heard[since:] if what == UNLOADED}

    def _end(self) -> None:
        assert self._process.stdin is not None  # opened as a pipe above
        if not self._process.stdin.closed:
            with contextlib.suppress(OSError):
                self._process.stdin.write(guard.HURRY if self._is_maimed else b"")
                self._process.stdin.close()
        while self._process.poll() is None:
            if signals.is_urgent():  # nobody waits for what is in flight any more
                os.killpg(self._process.pid, signal.SIGKILL)
            time.sleep(STOP_POLL_SECONDS)
        self._reader.join(1)
        self._snapshot.close()
        # The guard has done so, unless something killed it.
        guard.remove_leftovers(self._prefix, self._folder)

    def _reason(self, model: dict[str, str]) -> str:
        """Why a model is not served: from the index, or, while the server tries again, from its log."""
        said = [
            re.search(rf"failed to load '{re.escape(model['name'])}' version \d+: (.*)", line) for line in self._lines
        ]
        reason = model.get("reason") or next((match[1] for match in said if match), "")
        # The stub adds its Python stack, and the server knows the model by this launcher's links.
        reason = re.split(r"(\\n|\n){2}At:", reason)[0].rstrip('"')
        reason = re.sub(r"(\\n|\s)+", " ", reason).strip()
        return reason.replace(str(self._models), str(self._repository))

    def is_live(self) -> bool:
        try:
            self._http("/v2/health/live")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def _index(self) -> list[dict[str, str]]:
        index: list[dict[str, str]] = self._http("/v2/repository/index", b"{}")
        return index

    def _ask(self, path: str, body: dict[str, Any] | None) -> Any:
        return self._http(path, None if body is None else json.dumps(body).encode())

    def _http(self, path: str, data: bytes | None = None) -> Any:
        request = urllib.request.Request(f"http://{self.endpoints.http}{path}", data, access.http_headers(self._key))
        with DIRECT.open(request, timeout=10) as response:
            return json.loads(response.read() or b"null")

    def _read_log(self) -> None:
        assert self._process.stdout is not None  # opened as a pipe above
        with self._process.stdout as log:
            for line in log:
                text = line.decode(errors="replace").rstrip()
                if self._key:
                    text = text.replace(self._key, "(key)")
                if told := CAME_OR_WENT.search(text):
                    self._heard.append((told[1], told[2], told[3] or ""))
                if self._is_worth_telling(text):
                    self._lines.append(text)
                    if self._speaks:
                        print(text, file=sys.stderr, flush=True)

    def _is_worth_telling(self, line: str) -> bool:
        if not self._verbose and INFORMATION.match(line):
            return False
        return not any(remark in line for remark in self._remarks)


def _refusal(name: str, reason: str) -> str:
    hint = next((hint for words, hint in HINTS.items() if words in reason), f"build it again, or take {name} away")
    return f"the server cannot load {name}: {reason or 'see its log with --verbose'}; {hint}"


def _refuse_container(wanted: ContainerOptions) -> None:
    given = [name for name in ("image", "name", "detach", "memory", "cpus") if getattr(wanted, name)]
    if given:
        raise LaunchError(f"--{given[0]} is for containers; add --launcher docker")


def _require_models(repository: Path) -> None:
    if not repository.is_dir():
        raise LaunchError(f"{repository} does not exist; build it first: build-repo -r {repository}")
    if not any((entry / layout.CONFIG).is_file() for entry in repository.iterdir()):
        raise LaunchError(f"there are no models in {repository}; build some first: build-repo -r {repository}")


def choose_ports(options: LaunchOptions) -> dict[str, int]:
    """The three ports: those asked for, if they are free, and free ones for 0. Raises LaunchError."""
    wanted = {"http": options.http_port, "grpc": options.grpc_port, "metrics": options.metrics_port}
    hosts = vars(access.addresses(options))
    given = [port for port in wanted.values() if port]
    if twice := next((port for port in given if given.count(port) > 1), None):
        raise LaunchError(f"port {twice} is given twice; --http-port, --grpc-port and --metrics-port are three")
    sockets = []
    try:
        for name, port in wanted.items():
            sockets.append(_bind(hosts[name], name, port))
        return {name: bound.getsockname()[1] for name, bound in zip(wanted, sockets, strict=True)}
    finally:
        for bound in sockets:
            bound.close()


def _bind(host: str, name: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise LaunchError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another with --{name}-port, or 0 for a free one"
        ) from None
    return bound


def has_gpu() -> bool:
    return Path("/dev/nvidiactl").exists()


def endpoints(options: LaunchOptions, ports: dict[str, int]) -> Endpoints:
    def at(host: str, port: int) -> str:
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    hosts = {name: ANY_ADDRESS.get(host, host) for name, host in vars(access.addresses(options)).items()}
    return Endpoints(
        grpc=("grpcs://" if options.tls else "") + at(hosts["grpc"], ports["grpc"]),
        http=at(hosts["http"], ports["http"]),
        metrics=f"http://{at(hosts['metrics'], ports['metrics'])}/metrics",
    )


def _command(runtime: Runtime, options: LaunchOptions, ports: dict[str, int]) -> list[str]:
    return [
        str(runtime.binary),
        f"--model-repository={runtime.snapshot.folder}",
        f"--backend-directory={runtime.backends}",
        "--disable-auto-complete-config",
        "--model-control-mode=poll",
        "--repository-poll-secs=1",
        "--exit-on-error=false",  # the reasons are read from the repository index, then it is stopped
        f"--exit-timeout-secs={GRACE_SECONDS}",
        *access.public_arguments(access.addresses(options), options.tls),
        *(f"--{name}-port={port}" for name, port in ports.items()),
        "--metrics-config=summary_latencies=true",  # the quantiles that `repo-client top` shows
        f"--allow-gpu-metrics={'true' if has_gpu() else 'false'}",
        f"--log-info={'true' if options.verbose else 'false'}",
    ]
