"""The first process of a container of NVIDIA's image: starts tritonserver, and drains it before it stops.

On SIGTERM Triton stops all models at once, so that a request between two steps of an ensemble fails. So this takes
the ensembles away first, which lets the requests that are inside them through. It serves a repository as that is when
it starts, whatever a build does to it meanwhile, and has models loaded anew whose worker process died. It
makes do with the shared memory that there is, and has the server forget that of clients that are dead. The standard
library alone, with `hidden.py`, `regions.py`, `sharing.py`, `snapshot.py` and `workers.py` beside it. What it says and
its exit codes are those of `build-repo serve`.
"""

from __future__ import annotations

import argparse
import atexit
import http.client
import json
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import hidden  # type: ignore[import-not-found]
import regions  # type: ignore[import-not-found]
import sharing  # type: ignore[import-not-found]
import snapshot  # type: ignore[import-not-found]
import workers  # type: ignore[import-not-found]

BINARY = "/opt/tritonserver/bin/tritonserver"
# The same as in builder/launchers/access.py.
RESTRICTED = ("model-repository", "shared-memory", "logging", "trace")
HEADER = "build-repo-admin-key"
KEY_VARIABLE = "BUILD_REPO_ADMIN_KEY"
SHORTEST_KEY = 16
GRACE_SECONDS = 30
HURRIED_SECONDS = 5
"""Where a worker died: what is left of it may keep the server from ending in order."""
UNLOAD_SECONDS = 20
POLL_SECONDS = 0.1
LINGER_SECONDS = 1.0
"""For requests that are on their way when the signal comes."""
PYTHON = re.compile(r'^backend: "python"', re.MULTILINE)
SOME_WORKERS = 4
"""Where that cannot be told."""
STUB_TIMEOUT_SECONDS = 300
CANNOT_LAUNCH, CANNOT_LOAD, ENDED = 10, 11, 21
# Of a session of its own: Ctrl-C at a container's terminal is for the first process alone, which then drains it.
PIPED: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "start_new_session": True}
UNLOADED = re.compile(r"successfully unloaded '(.+)' version")
LOCAL = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Stop:
    """Whether the end is asked for. The handler takes no lock, which the thread that it interrupts may hold."""

    def __init__(self) -> None:
        self._is_set = False
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def listen(self) -> None:
        # The interpreter's own handler writes a byte, too, so that none comes too late to wake a wait that begins.
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        atexit.register(_ignore_signals)

    def _note(self, *_: int | FrameType | None) -> None:
        self._is_set = True

    def set(self) -> None:
        """By a thread."""
        self._is_set = True
        with suppress(BlockingIOError):
            os.write(self._writer, b"!")

    def wait(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        if not self._is_set and poll.poll(seconds * 1000) and not self._is_set:
            os.read(self._reader, 4096)  # of other signals
        return self._is_set


def _ignore_signals() -> None:
    """While the interpreter ends, they could only spoil the exit code."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def main() -> int:
    stopping = Stop()
    stopping.listen()  # before all else: the kernel keeps signals without a handler from a container's first process
    options, taken = _options(), None
    try:
        key = _key(options)
        taken = _snapshot(options)
        _require_shared_memory(options.repository)
        server = Server(hidden.start(_command(options), _secret(key), env=_environment(), **PIPED), options.verbose)
    except (OSError, hidden.NotHidden) as error:
        _forget(taken)
        _say(f"{error}; --unrestricted does without a key" if isinstance(error, hidden.NotHidden) else str(error))
        return CANNOT_LAUNCH
    if options.until_input_closes:
        threading.Thread(target=_wait_for_end_of_input, args=(stopping,), daemon=True).start()
    host = options.http_host or options.host
    try:
        return _run(server, Api(f"http://{LOCAL.get(host, host)}:{options.http_port}", key), stopping, options.linger)
    finally:
        if server.process.poll() is None:
            _end(server.process)
        server.finish()
        _forget(taken)


def _forget(taken: Any) -> None:
    if taken:
        taken.close()
        shutil.rmtree(taken.folder.parent, ignore_errors=True)


def _snapshot(options: argparse.Namespace) -> Any:
    """Of a repository in a folder; what is served is then that. It is open as long as it is kept. Raises OSError."""
    if not Path(options.repository).is_dir():
        return None  # somewhere that the server itself reads, such as s3://, or a mistake that it tells of
    try:
        folder = Path(tempfile.mkdtemp(prefix="build-repo-"))
    except FileNotFoundError as error:
        _say(f"{error}: the server reads the repository itself, so build no other one in its place while it runs")
        return None
    try:
        taken = snapshot.Snapshot(Path(options.repository).absolute(), folder / "models")
    except OSError:
        folder.rmdir()
        raise
    options.repository = str(taken.folder)
    return taken


def _wait_for_end_of_input(stopping: Stop) -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock this would hold when the process ends
        pass
    stopping.set()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve a repository with this image's tritonserver.")
    parser.add_argument("--repository", "-r", default="/models")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--http-host", default="", help="where plain HTTP listens, if not there")
    parser.add_argument("--metrics-host", default="", help="where the metrics are, if not where HTTP is")
    for name, port in (("http", 8000), ("grpc", 8001), ("metrics", 8002)):
        parser.add_argument(f"--{name}-port", type=int, default=port)
    parser.add_argument("--admin-key-file", type=Path)
    parser.add_argument("--unrestricted", action="store_true")
    for name in ("--tls-cert", "--tls-key", "--tls-client-ca"):
        parser.add_argument(name)
    parser.add_argument("--linger", type=float, default=LINGER_SECONDS, help="to serve on after SIGTERM")
    parser.add_argument("--until-input-closes", action="store_true", help="stop when whoever started this is gone")
    parser.add_argument("--verbose", "-v", action="store_true")
    parser.add_argument("rest", nargs="*", help="more arguments for tritonserver, behind --")
    return parser.parse_args()


def _key(options: argparse.Namespace) -> str | None:
    """The administrator's; one that nobody knows where none is given. Raises OSError."""
    if options.unrestricted:
        return None
    if options.admin_key_file:
        return _checked(options.admin_key_file.read_bytes().decode(errors="replace").strip(), options.admin_key_file)
    key = os.environ.get(KEY_VARIABLE)
    return secrets.token_urlsafe(32) if key is None else _checked(key.strip(), KEY_VARIABLE)


def _checked(key: str, source: object) -> str:
    """Raises OSError, which holds no word of the key."""
    if len(key) < SHORTEST_KEY or not all("!" <= character <= "~" for character in key):
        raise OSError(f"{source} holds no key: one line of at least {SHORTEST_KEY} ASCII characters without spaces")
    return key


def _command(options: argparse.Namespace) -> list[str]:
    http_host = options.http_host or options.host
    return [
        shutil.which("tritonserver") or BINARY,
        f"--model-repository={options.repository}",
        "--model-control-mode=explicit",
        "--load-model=*",
        "--disable-auto-complete-config",
        "--exit-on-error=false",  # the reasons are read from the repository index
        f"--exit-timeout-secs={GRACE_SECONDS}",
        f"--http-address={http_host}",
        f"--grpc-address={options.host}",
        f"--metrics-address={options.metrics_host or http_host}",
        *(f"--{name}-port={getattr(options, f'{name}_port')}" for name in ("http", "grpc", "metrics")),
        "--metrics-config=summary_latencies=true",
        f"--log-info={'true' if options.verbose else 'false'}",
        *sharing.arguments(_workers(options.repository), sharing.free()),
        f"--backend-config=python,stub-timeout-seconds={STUB_TIMEOUT_SECONDS}",
        *_tls(options),
        *options.rest,
    ]


def _workers(repository: str) -> int:
    """How many models of a repository in a folder run in processes of their own; their instances are one each."""
    configs = [path.read_text(errors="replace") for path in Path(repository).glob("*/config.pbtxt")]
    return sum(bool(PYTHON.search(text)) for text in configs) or SOME_WORKERS


def _require_shared_memory(repository: str) -> None:
    """Raises OSError."""
    workers = _workers(repository)
    if lack := sharing.lack(workers, workers * sharing.LEAST_BYTES, sharing.free()):
        raise OSError(lack)


def _tls(options: argparse.Namespace) -> list[str]:
    if not options.tls_cert:
        return []
    kind = "--grpc-use-ssl-mutual=true" if options.tls_client_ca else "--grpc-use-ssl=true"
    arguments = [kind, f"--grpc-server-cert={options.tls_cert}", f"--grpc-server-key={options.tls_key}"]
    return arguments + ([f"--grpc-root-cert={options.tls_client_ca}"] if options.tls_client_ca else [])


def _secret(key: str | None) -> list[str]:
    if key is None:
        return []
    value = f"{','.join(RESTRICTED)}:{HEADER}={key}"
    return [f"--grpc-restricted-protocol={value}", f"--http-restricted-api={value}"]


def _environment() -> dict[str, str]:
    told = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
    return {"ORT_DISABLE_TELEMETRY": "1"} | told  # ONNX Runtime would report its use to its makers


class Server:
    """tritonserver, whose log this passes on and reads."""

    def __init__(self, process: subprocess.Popen[bytes], verbose: bool) -> None:
        self.process = process
        self.unloaded: set[str] = set()
        """Models whose last request is through: the index says so too early, the log does not."""
        self._verbose = verbose
        self._is_quiet = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def finish(self) -> None:
        """Pass the last words on: a thread that still writes when the interpreter ends can hang it."""
        self._reader.join(1)

    def quiet(self) -> None:
        """From here on, pass nothing on that is not asked for: the log is made to tell more than it did."""
        self._is_quiet = not self._verbose

    def _read(self) -> None:
        assert self.process.stdout is not None  # piped
        for line in self.process.stdout:
            text = line.decode(errors="replace")
            if found := UNLOADED.search(text):
                self.unloaded.add(found[1])
            if not self._is_quiet:
                sys.stderr.write(text)
                sys.stderr.flush()


class Api:
    """The server's HTTP side, with the administrator's key."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url
        self._headers = {} if key is None else {HEADER: key}

    def index(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self.ask("/v2/repository/index", {})
        return found

    def unready(self) -> list[dict[str, str]] | None:
        """The models that were not loaded, with their reasons; None while the server does not answer yet."""
        try:
            self.ask("/v2/health/live")
            return [model for model in self.index() if model.get("state") != "READY"]
        except (OSError, http.client.HTTPException):
            return None

    def ready(self) -> list[str]:
        return [model["name"] for model in self.index() if model.get("state") == "READY"]

    def ensembles(self) -> list[str]:
        return [name for name in self.ready() if self.ask(f"/v2/models/{name}").get("platform") == "ensemble"]

    def outermost(self) -> list[str]:
        """The ensembles, and what no ensemble asks: models that are served by themselves."""
        configs = {name: self.ask(f"/v2/models/{name}/config") for name in self.ready()}
        steps = [step for found in configs.values() for step in found.get("ensemble_scheduling", {}).get("step", [])]
        called = {step["model_name"] for step in steps}
        return [name for name, found in configs.items() if found.get("platform") == "ensemble" or name not in called]

    def is_ready(self, name: str) -> bool:
        try:
            self.ask(f"/v2/models/{name}/ready")
        except urllib.error.HTTPError:
            return False
        return True

    def load(self, name: str) -> None:
        """Back when it is loaded. Raises OSError with the server's reason."""
        try:
            self.ask(f"/v2/repository/models/{name}/load", {}, STUB_TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            raise OSError(error.read().decode(errors="replace").strip()) from None

    def with_workers(self) -> list[str]:
        """Models that run in processes of their own."""
        return [name for name in self.ready() if self.ask(f"/v2/models/{name}/config").get("backend") == "python"]

    def tell_more(self) -> None:
        """Have the log tell of models that come and go."""
        self.ask("/v2/logging", {"log_info": True})

    def unload(self, name: str) -> None:
        self.ask(f"/v2/repository/models/{name}/unload", {})

    def ask(self, path: str, data: dict[str, Any] | None = None, seconds: float = 10) -> Any:
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(self._url + path, body, self._headers)
        with DIRECT.open(request, timeout=seconds) as response:
            return json.loads(response.read() or b"null")


class Care:
    """Of the models whose worker process dies, from when all are ready."""

    def __init__(self, server: int, api: Api, give_up: Callable[[str, bool], None]) -> None:
        self._api, self._ensembles = api, api.ensembles()
        watch = workers.Watch(workers.Workers(server), api.with_workers())
        self._nurse = workers.Nurse(watch, self._revive, give_up, _say)
        self._sweeper = regions.Sweeper(api.ask)
        self.was_needed = False

    def leave(self) -> None:
        self._nurse.leave()
        self._sweeper.leave()

    def _revive(self, model: str) -> None:
        """Unload the model, so that until it is loaded the server says that it is not ready. Raises NotRevived."""
        self.was_needed = True
        try:
            self._api.unload(model)
            deadline = time.monotonic() + UNLOAD_SECONDS
            while self._api.is_ready(model) and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
            self._api.load(model)
            for ensemble in self._ensembles:  # those of this model went with it
                if not self._api.is_ready(ensemble) and not self._nurse.is_leaving:
                    self._api.load(ensemble)
        except (OSError, http.client.HTTPException) as error:
            raise workers.NotRevived(str(error)) from None


def _run(started: Server, api: Api, stopping: Stop, linger: float) -> int:
    server, care = started.process, None
    reasons: list[str] = []
    while server.poll() is None and not reasons and not stopping.wait(POLL_SECONDS):
        if care is None and (failed := api.unready()) is not None:
            if failed:
                _say_reasons(failed)
                _end(server)
                return CANNOT_LOAD
            with suppress(OSError, http.client.HTTPException):  # it is busy; the next look asks again
                care = Care(server.pid, api, lambda reason, _: reasons.append(reason))
                _say("ready")
    if server.poll() is not None:
        _say(f"the server ended by itself with status {server.returncode}; its last words are above")
        return ENDED
    _finish(started, api, care, 0 if reasons else linger)
    if reasons:
        _say(f"{reasons[0]}; the server is ended, so that whoever watches it starts it anew")
        return ENDED
    return 0


def _finish(started: Server, api: Api, care: Care | None, linger: float) -> None:
    """Answer what is in flight, and end the server."""
    if care:
        time.sleep(linger)  # balancers go on sending until they have noticed
        care.leave()
    _say("stopping: answering what is in flight ...")
    if care:
        _drain(started, api)
    _end(started.process, HURRIED_SECONDS if care and care.was_needed else GRACE_SECONDS + 5)


def _say_reasons(failed: list[dict[str, str]]) -> None:
    """An ensemble fails with its steps, and has no reason of its own to tell."""
    reasons = {model["name"]: " ".join(model.get("reason", "").split()) for model in failed}
    telling = {name: reason for name, reason in reasons.items() if reason and "depend" not in reason} or reasons
    lines = [f"the server cannot load {name}: {reason or 'see its log above'}" for name, reason in telling.items()]
    _say("\n".join(lines))


def _drain(server: Server, api: Api) -> None:
    try:
        names = set(api.outermost())
        server.quiet()
        api.tell_more()
        for name in names:
            api.unload(name)
        deadline = time.monotonic() + GRACE_SECONDS
        while not names <= server.unloaded and time.monotonic() < deadline and server.process.poll() is None:
            time.sleep(POLL_SECONDS)
    except (OSError, http.client.HTTPException) as error:
        _say(f"the server is stopped without waiting for what is in flight: {error}")


def _end(server: subprocess.Popen[bytes], seconds: float = GRACE_SECONDS + 5) -> None:
    server.terminate()
    try:
        server.wait(seconds)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _say(message: str) -> None:
    print(f"build-repo: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
