"""The real tritonserver of the nvidia-pytriton wheel, as a child process of this one."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import LaunchError, ModelLoadError, ServerEnded
from builder.launchers import access, guard, keys, needs, ports, sharing, workers
from builder.launchers.care import Care, drain, say
from builder.launchers.certificates import require_usable
from builder.launchers.compatibility import refuse_unloadable
from builder.launchers.mirror import Mirror
from builder.launchers.options import NoOptions
from builder.launchers.runtime import PYTHON_BACKEND, Runtime, make_runtime, prepare
from builder.launchers.server_log import ServerLog
from builder.launchers.wanted import wanted
from builder.machine import signals
from builder.repository import layout
from builder.triton import advisories, control
from builder.triton.connection import Access
from builder.triton.control import GRACE_SECONDS, STUB_TIMEOUT_SECONDS, Control

if TYPE_CHECKING:
    from builder.launchers.options import LaunchOptions

OPTIONS: type[Any] = NoOptions
LISTED_BY = ""

POLL_SECONDS = 0.1
STOP_POLL_SECONDS = 0.02
# What the server, which is built for CUDA, says on a machine without, at the level of errors.
NO_GPU_REMARKS = (
    "CUDA driver version is insufficient",
    "CudaDriverHelper has not been initialized",
    "no pinned memory pool",
    "Signal (15) received",
)
# Of models that are loaded for a trial, with files of their own.
TRIAL_REMARKS = ("Failed to set config modification time",)
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


def launch(repository: Path, options: LaunchOptions, own: NoOptions | None = None) -> EmbeddedServer:
    """Raises LaunchError, ModelLoadError, RepositoryError."""
    del own  # it has none
    _require_models(repository)
    refuse_unloadable(repository)
    if options.tls:
        require_usable(options.tls)
    options = access.judged(options, advisories.EMBEDDED)
    key, chosen = access.key_of(options), ports.choose(options)
    server = None
    try:
        with signals.held():  # until the guard has the folder to remove
            runtime = make_runtime(repository, options.verify_integrity, options.judge)
            server = EmbeddedServer(repository, runtime, options, chosen, key)
        server.wait_until_ready()
    except BaseException:
        if server:
            server.stop()
        raise
    return server


def stop(repository: Path | None, name: str | None) -> list[str]:
    """Nothing to stop: each server ends with the process that launched it."""
    del repository, name
    return []


class EmbeddedServer:
    """A running server. A context manager: leaving it stops the server."""

    name = ""
    is_detached = False

    def __init__(
        self, repository: Path, runtime: Runtime, options: LaunchOptions, chosen: dict[str, int], key: str | None = None
    ) -> None:
        """Start it, on the `chosen` ports; it is not ready yet."""
        self.endpoints = ports.endpoints(options, chosen)
        self.is_restricted = access.is_restricted(options)
        self.access: Access | None = access.own(self.endpoints, key)
        self.advisories = access.open_advisories(options)
        self._control = Control(self.endpoints.http, key)
        self._repository, self._snapshot = repository, runtime.snapshot
        self._folder = runtime.folder
        self.models = runtime.snapshot.folder
        """What the server itself reads."""
        self._prefix = f"build-repo-{secrets.token_hex(6)}-"
        """What the names of its shared memory begin with, so that none of it stays behind."""
        self._checks = options.verify_integrity
        self._names = wanted(self.models)
        self._is_ready = False
        self._care: Care | None = None
        self._mirror: Mirror | None = None
        self._left = contextlib.ExitStack()
        """What others find of this server while it lives."""
        self._is_stuck = False
        self._process = self._started(runtime, _command(runtime, options, chosen, self._names))
        self._tell_secrets(access.secret_arguments(key, access.closed(options)))
        if options.admin_key is None and key:
            self._left.enter_context(keys.left(self.endpoints, key))
        assert self._process.stdout is not None  # opened as a pipe
        remarks = TRIAL_REMARKS if has_gpu() else (*TRIAL_REMARKS, *NO_GPU_REMARKS)
        self._log = ServerLog(self._process.stdout, key, options.verbose, remarks)

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _started(self, runtime: Runtime, command: list[str]) -> subprocess.Popen[bytes]:
        """The guard, which starts the server and cleans up behind it, whatever becomes of this process."""
        settings = {"shm-region-prefix-name": self._prefix, "stub-timeout-seconds": STUB_TIMEOUT_SECONDS}
        command = command + [f"--backend-config={PYTHON_BACKEND},{name}={value}" for name, value in settings.items()]
        command += sharing.arguments(needs.of(self.models).workers, sharing.free())
        # The guard waits a little longer than the server itself, which waits for its models.
        arguments = [self._prefix, str(self._folder), str(GRACE_SECONDS + 5), *command]
        return subprocess.Popen(
            # Isolated and without site-packages: the guard is to run whatever is wrong with the environment.
            [sys.executable, "-I", "-S", guard.__file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=runtime.environment,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the server
        )

    def _tell_secrets(self, arguments: list[str]) -> None:
        """To the guard, by the pipe that nobody else can read."""
        assert self._process.stdin is not None  # opened as a pipe above
        with contextlib.suppress(BrokenPipeError):  # it ended at once, which is noticed later
            self._process.stdin.write(json.dumps(arguments).encode() + b"\n")
            self._process.stdin.flush()

    def wait_until_ready(self) -> None:
        """Back when all models are ready. Raises LaunchError with the server's own reasons."""
        # Triton opens the port of the metrics last.
        while not (self.is_live() and control.answers(self.endpoints.metrics)):
            if self._process.poll() is not None:
                self._log.finish()
                raise self._early_end()
            time.sleep(POLL_SECONDS)
        if failed := self._control.unready(self._names):
            raise ModelLoadError(self._refusals(failed))
        self._care = Care(self._server(), self._control, self._give_up, say, is_python=True)
        self._mirror = Mirror(self._snapshot, self._control.loaded, say, prepare, self._checks)
        self._is_ready = True
        self._log.pass_on(True)

    def _refusals(self, failed: list[dict[str, str]]) -> str:
        """Why, a line a model. An ensemble fails with its steps, and then has no reason of its own to tell."""
        # The server knows the models by the paths of this launcher's snapshot.
        shown = str(self.models), str(self._repository)
        reasons = {model["name"]: self._log.reason(model).replace(*shown) for model in failed}
        telling = {name: reason for name, reason in reasons.items() if reason} or reasons
        return "\n".join(_refusal(name, reason) for name, reason in telling.items())

    def _server(self) -> int | None:
        """Its process; None where /proc does not tell which it is, or if it has just ended."""
        return next((child for child in workers.children(self._process.pid) if workers.is_server(child)), None)

    def _give_up(self, reason: str, is_stuck: bool) -> None:
        self._is_stuck = is_stuck
        say(f"{reason}; the server is ended, so that whoever watches it starts it anew")
        self.stop()

    def _early_end(self) -> LaunchError:
        lines = self._log.lines
        if self._process.returncode == guard.NOT_HIDDEN:
            return LaunchError(f"{lines[-1]}; {UNHIDDEN_HINT}")
        return ServerEnded("the server ended before it was ready; it said:\n" + "\n".join(lines))

    def is_live(self) -> bool:
        return self._control.is_live()

    def served(self, name: str) -> tuple[int, ...]:
        return self._control.served(name)

    def wait(self) -> int:
        return self._process.wait()

    def stop(self) -> None:
        for helper in (self._mirror, self._care):
            if helper:
                helper.leave()
        try:
            if self._is_ready and self._process.poll() is None:
                self._is_ready = False
                self._log.pass_on(False)  # it complains of models that go because they are taken away
                before = self._log.position()
                drain(self._control, lambda: self._log.unloaded(before), self._is_over, self._grace())
        except control.NO_ANSWER:
            pass  # it died meanwhile, so that there is nothing left to wait for
        finally:
            self._end()

    def _is_over(self) -> bool:
        return self._process.poll() is not None or signals.is_urgent()

    def _grace(self) -> float:
        return guard.HURRIED_SECONDS if self._is_stuck else GRACE_SECONDS

    def _end(self) -> None:
        """Have the guard end the server, and wait for both; then nothing of it is left on the machine."""
        assert self._process.stdin is not None  # opened as a pipe above
        if not self._process.stdin.closed:
            with contextlib.suppress(OSError):
                self._process.stdin.write(guard.HURRY if self._care and self._care.was_needed else b"")
                self._process.stdin.close()
        while self._process.poll() is None:
            if signals.is_urgent():  # nobody waits for what is in flight any more
                os.killpg(self._process.pid, signal.SIGKILL)
            time.sleep(STOP_POLL_SECONDS)
        self._log.finish()
        self._snapshot.close()
        self._left.close()
        # The guard has done so, unless something killed it.
        guard.remove_leftovers(self._prefix, self._folder)


def _refusal(name: str, reason: str) -> str:
    hint = next((hint for words, hint in HINTS.items() if words in reason), f"build it again, or take {name} away")
    return f"the server cannot load {name}: {reason or 'see its log with --verbose'}; {hint}"


def _require_models(repository: Path) -> None:
    if not repository.is_dir():
        raise LaunchError(f"{repository} does not exist; build it first: build-repo -r {repository}")
    if not any((entry / layout.CONFIG).is_file() for entry in repository.iterdir()):
        raise LaunchError(f"there are no models in {repository}; build some first: build-repo -r {repository}")


def has_gpu() -> bool:
    """Whether the driver is there; asking a library would load CUDA into this process."""
    return Path("/dev/nvidiactl").exists()


def _command(runtime: Runtime, options: LaunchOptions, chosen: dict[str, int], models: list[str]) -> list[str]:
    return [
        str(runtime.binary),
        f"--model-repository={runtime.snapshot.folder}",
        f"--backend-directory={runtime.backends}",
        "--disable-auto-complete-config",  # the configs are complete, and stay what was verified
        "--model-control-mode=explicit",  # whatever comes into the folder, nothing is loaded that nobody asked for
        *(f"--load-model={name}" for name in models),
        "--exit-on-error=false",  # the reasons are read from the repository index, then it is stopped
        f"--exit-timeout-secs={GRACE_SECONDS}",
        *access.public_arguments(access.addresses(options), options.tls),
        *(f"--{name}-port={port}" for name, port in chosen.items()),
        "--metrics-config=summary_latencies=true",  # the quantiles that `repo-client top` shows
        f"--allow-gpu-metrics={'true' if has_gpu() else 'false'}",
        f"--log-info={'true' if options.verbose else 'false'}",
    ]
