"""The truth: what a throwaway server says of each model."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.errors import LaunchError
from builder.launchers.runtime import Bare, bare
from builder.triton.control import DIRECT

START_S = 60.0
LOAD_S = 600.0
DIED = "the server ended"
POLL_FAILED = re.compile(r"Poll failed for model directory '(?P<model>[^']*)': (?P<reason>.*?)\"?$", re.MULTILINE)
NOT_PARSED = re.compile(r"Error parsing text-format [^\n]*")


@dataclass(frozen=True)
class Verdict:
    model: str
    reason: str
    """In the server's words; empty: it loads."""


def judged(
    repository: Path,
    models: Sequence[str],
    backends: Path | None = None,
    strict: bool = False,
    arguments: Sequence[str] = (),
) -> Iterator[Verdict]:
    """Each model loaded alone, with what it asks, and unloaded again.

    `backends` is a folder of backends instead of the embedded server's own, `arguments` are tritonserver's. A server
    that ends is started again for the next one. Raises LaunchError where no server can run.
    """
    with bare() as runtime:
        command = _command(repository, runtime, backends or runtime.backends, strict, arguments)
        left = list(models)
        while left:
            with _Judge(command, runtime) as judge:
                while left and (verdict := judge.verdict(left[0])):
                    yield verdict
                    left.pop(0)
                    if verdict.reason.startswith(DIED):
                        break


def _command(repository: Path, runtime: Bare, backends: Path, strict: bool, arguments: Sequence[str]) -> list[str]:
    return [
        str(runtime.binary),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        "--model-control-mode=explicit",
        *(["--disable-auto-complete-config"] if strict else []),
        "--exit-on-error=false",
        "--http-address=127.0.0.1",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--allow-gpu-metrics=false",
        "--model-load-retry-count=0",
        "--exit-timeout-secs=1",
        "--log-info=false",
        *arguments,
    ]


class _Judge:
    """One server, as long as it lasts."""

    def __init__(self, command: Sequence[str], runtime: Bare) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._url, self._log = f"http://127.0.0.1:{port}/v2", runtime.folder / f"log-{port}"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, f"--http-port={port}"], env=runtime.environment, stdout=output, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> _Judge:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                DIRECT.open(f"{self._url}/health/live", timeout=START_S).close()
            except OSError:
                time.sleep(0.02)
            else:
                return self
        self.__exit__()
        raise LaunchError(f"no server could be started: {self._said(0)[-1000:]}")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def verdict(self, model: str) -> Verdict:
        begin = self._log.stat().st_size
        try:
            reason = self._loaded(model)
        except (OSError, http.client.HTTPException):
            self._process.wait(30)
            return Verdict(model, f"{DIED}: {self._said(begin)[-500:]}")
        if reason:
            # The answer of what cannot even be read does not say why; the log does.
            said = self._said(begin)
            told = [words for name, words in POLL_FAILED.findall(said) if name == model]
            reason += "".join(f"\n{words}" for words in (*told, *NOT_PARSED.findall(said)))
        return Verdict(model, reason)

    def _loaded(self, model: str) -> str:
        where = f"{self._url}/repository/models/{urllib.parse.quote(model, safe='')}"
        try:
            DIRECT.open(urllib.request.Request(f"{where}/load", b"{}"), timeout=LOAD_S).close()
        except urllib.error.HTTPError as error:
            return str(json.loads(error.read())["error"])
        body = json.dumps({"parameters": {"unload_dependents": True}}).encode()
        DIRECT.open(urllib.request.Request(f"{where}/unload", body), timeout=LOAD_S).close()
        return ""

    def _said(self, begin: int) -> str:
        with self._log.open("rb") as log:
            log.seek(begin)
            return log.read().decode(errors="replace")
