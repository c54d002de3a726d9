"""What is asked of a running Triton by HTTP: whether it is ready, and, with the administrator's key, its models.

The standard library alone: the first process of a container has this file beside it.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

# Triton's names for groups of endpoints, the same for gRPC and HTTP. The repository's covers its index, too.
RESTRICTED = ("model-repository", "shared-memory", "logging", "trace")
HEADER = "build-repo-admin-key"
GRPC_HEADER = f"triton-grpc-protocol-{HEADER}"
ANSWER_SECONDS = 10.0
GRACE_SECONDS = 30
"""Time in which a server that is to end answers what is in flight."""
UNLOAD_SECONDS = 20
"""Time for the unloading of a model whose worker has died, and which has nothing to answer any more."""
# Importing PyTorch from a cold disk takes a minute on small machines.
STUB_TIMEOUT_SECONDS = 300
# A proxy that the environment names is for the world outside, not for this machine's own server.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
NO_ANSWER = (OSError, http.client.HTTPException)
"""What `Control` raises where the server does not answer, or refuses: HTTPError, of urllib, is an OSError."""


def http_headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {HEADER: key}


def grpc_headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {GRPC_HEADER: key}


def secret_arguments(key: str | None) -> list[str]:
    """tritonserver's arguments that hold the key; `hidden.start` keeps them out of /proc."""
    if key is None:
        return []
    value = f"{','.join(RESTRICTED)}:{HEADER}={key}"
    return [f"--grpc-restricted-protocol={value}", f"--http-restricted-api={value}"]


class Control:
    """One server's HTTP side. Methods raise NO_ANSWER's exceptions unless they say otherwise."""

    def __init__(self, address: str, key: str | None = None) -> None:
        """`address` is HOST:PORT; `key` the administrator's, None where nothing is restricted."""
        self._url, self._headers = f"http://{address}", http_headers(key)

    def ask(self, path: str, body: dict[str, Any] | None = None, seconds: float = ANSWER_SECONDS) -> Any:
        """The JSON that it answers: to GET, or, with a body, to POST."""
        with self._opened(path, None if body is None else json.dumps(body).encode(), seconds) as response:
            return json.loads(response.read() or b"null")

    def _opened(self, path: str, data: bytes | None, seconds: float) -> Any:
        request = urllib.request.Request(self._url + path, data, self._headers)
        return DIRECT.open(request, timeout=seconds)

    def is_live(self) -> bool:
        """Whether it answers. Never raises."""
        return self._agrees("/v2/health/live")

    def is_ready(self) -> bool:
        """Whether it has loaded its models. Never raises."""
        return self._agrees("/v2/health/ready")

    def _agrees(self, path: str) -> bool:
        try:
            with self._opened(path, None, ANSWER_SECONDS):
                return True
        except NO_ANSWER:
            return False

    def index(self) -> list[dict[str, str]]:
        """Of every model in the repository: name, version, state and, where it is not READY, reason."""
        found: list[dict[str, str]] = self.ask("/v2/repository/index", {})
        return found

    def unready(self) -> list[dict[str, str]] | None:
        """The models that were not loaded, as in the index; None while the server does not answer yet. Never raises."""
        try:
            self.ask("/v2/health/live")
            return [model for model in self.index() if model.get("state") != "READY"]
        except NO_ANSWER:
            return None

    def ensembles(self) -> list[str]:
        return [name for name in self._loaded() if self.ask(f"/v2/models/{name}").get("platform") == "ensemble"]

    def outermost(self) -> list[str]:
        """The ensembles, and what no ensemble asks: models that are served by themselves."""
        configs = {name: self.ask(f"/v2/models/{name}/config") for name in self._loaded()}
        steps = [step for found in configs.values() for step in found.get("ensemble_scheduling", {}).get("step", [])]
        called = {step["model_name"] for step in steps}
        return [name for name, found in configs.items() if found.get("platform") == "ensemble" or name not in called]

    def with_workers(self) -> list[str]:
        """Models that run in processes of their own: those of the Python backend."""
        return [name for name in self._loaded() if self.ask(f"/v2/models/{name}/config").get("backend") == "python"]

    def _loaded(self) -> list[str]:
        return [model["name"] for model in self.index() if model.get("state") == "READY"]

    def is_served(self, model: str) -> bool:
        """Whether requests of it are taken. The index, which follows the folder, tells too early that it is gone."""
        try:
            self.ask(f"/v2/models/{model}/ready")
        except urllib.error.HTTPError:
            return False
        return True

    def load(self, model: str, seconds: float) -> None:
        """Back when it is loaded. Raises OSError with the server's reason."""
        try:
            self.ask(f"/v2/repository/models/{model}/load", {}, seconds)
        except urllib.error.HTTPError as error:
            raise OSError(error.read().decode(errors="replace").strip()) from None

    def unload(self, model: str) -> None:
        """Back at once; what is in flight is answered first, and the log tells when it was."""
        self.ask(f"/v2/repository/models/{model}/unload", {})

    def tell_more(self) -> None:
        """Have the log tell of models that come and go, whatever others have set."""
        self.ask("/v2/logging", {"log_info": True})
