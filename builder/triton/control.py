"""What is asked of a running Triton by HTTP: whether it is ready, and, with the administrator's key, its models.

The standard library alone: the first process of a container has this file beside it.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import Any

# Triton's names for groups of endpoints, the same for gRPC and HTTP. The repository's covers its index, too.
RESTRICTED = ("model-repository", "shared-memory", "logging", "trace")
MODEL_CONTROL = RESTRICTED[:1]
"""Whoever may load models may run code: a request to load brings a model's files along, if it wants to."""
READY, LOADING = "READY", "LOADING"
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


def secret_arguments(key: str | None, groups: Iterable[str] = RESTRICTED) -> list[str]:
    """tritonserver's arguments that hold the key; `hidden.start` keeps them out of /proc."""
    if key is None:
        return []
    value = f"{','.join(groups)}:{HEADER}={key}"
    return [f"--grpc-restricted-protocol={value}", f"--http-restricted-api={value}"]


def answers(url: str, seconds: float = ANSWER_SECONDS) -> bool:
    """Whether something speaks HTTP there, whatever it says. Never raises."""
    try:
        DIRECT.open(url, timeout=seconds).close()
    except urllib.error.HTTPError as error:
        error.close()
    except NO_ANSWER:
        return False
    return True


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

    def unready(self, wanted: Iterable[str] | None = None) -> list[dict[str, str]] | None:
        """Those of the wanted models that were not loaded, as in the index; None while the server does not answer yet.

        Without names, all in the repository. Never raises.
        """
        try:
            self.ask("/v2/health/live")
            told = self.index()
        except NO_ANSWER:
            return None
        names = {model["name"] for model in told} if wanted is None else set(wanted)
        missing = [{"name": name, "reason": "it is not in the index"} for name in names - {m["name"] for m in told}]
        return [model for model in told if model["name"] in names and model.get("state") != READY] + missing

    def states(self) -> dict[str, dict[str, str]]:
        """By model and version, of what is loaded, or was."""
        found: dict[str, dict[str, str]] = {}
        for model in self.index():
            if model.get("version") and model.get("state"):
                found.setdefault(model["name"], {})[model["version"]] = model["state"]
        return found

    def loaded(self) -> dict[str, set[str]]:
        """The versions of each model that are loaded, or come or go."""
        found = {name: {v for v, s in states.items() if s != "UNAVAILABLE"} for name, states in self.states().items()}
        return {name: versions for name, versions in found.items() if versions}

    def ready(self) -> dict[str, set[str]]:
        """The versions of each model that are served, by its name."""
        found = {name: {v for v, s in states.items() if s == READY} for name, states in self.states().items()}
        return {name: versions for name, versions in found.items() if versions}

    def served(self, name: str) -> tuple[int, ...]:
        """The versions of a model that are served; none where it is not. What everybody may ask."""
        try:
            return tuple(sorted(map(int, self.ask(f"/v2/models/{name}").get("versions", ()))))
        except urllib.error.HTTPError:
            return ()

    def config(self, name: str) -> dict[str, Any]:
        """As it was loaded, which may be another one than that in the repository."""
        found: dict[str, Any] = self.ask(f"/v2/models/{name}/config")
        return found

    def configs(self) -> dict[str, dict[str, Any]]:
        """Of all that are served."""
        return {name: self.config(name) for name in self.ready()}

    def outermost(self) -> list[str]:
        """The ensembles, and what no ensemble asks: models that are served by themselves."""
        configs = self.configs()
        called = {name for found in configs.values() for name in steps(found)}
        return [name for name, found in configs.items() if is_ensemble(found) or name not in called]

    def is_served(self, model: str) -> bool:
        """Whether requests of it are taken. The index tells too early that it is gone."""
        try:
            self.ask(f"/v2/models/{model}/ready")
        except urllib.error.HTTPError:
            return False
        return True

    def load(self, model: str, seconds: float, config: dict[str, Any] | None = None) -> None:
        """Back when it is loaded, with the config in place of the repository's. Raises OSError with the reason."""
        body = {"parameters": {"config": json.dumps(config)}} if config else {}
        try:
            self.ask(f"/v2/repository/models/{model}/load", body, seconds)
        except urllib.error.HTTPError as error:
            raise OSError(error.read().decode(errors="replace").strip()) from None

    def unload(self, model: str) -> None:
        """Back at once; what is in flight is answered first, and the log tells when it was."""
        self.ask(f"/v2/repository/models/{model}/unload", {})

    def tell_more(self) -> None:
        """Have the log tell of models that come and go, whatever others have set."""
        self.ask("/v2/logging", {"log_info": True})


def is_ensemble(config: dict[str, Any]) -> bool:
    return bool(config.get("platform") == "ensemble")


def steps(config: dict[str, Any]) -> set[str]:
    """The names of what an ensemble asks."""
    return {step["model_name"] for step in config.get("ensemble_scheduling", {}).get("step", [])}


def with_versions(config: dict[str, Any], versions: Iterable[str]) -> dict[str, Any]:
    """The same model with just these versions."""
    return config | {"version_policy": {"specific": {"versions": sorted(map(int, versions))}}}


def workers_of(config: dict[str, Any], is_python: bool) -> int:
    """Processes that a version of the model runs in. `is_python`: every backend of the server is one in Python."""
    if is_ensemble(config) or not (is_python or config.get("backend") == "python"):
        return 0
    groups = config.get("instance_group", [])
    return sum(max(1, group.get("count", 1)) * max(1, len(group.get("gpus") or ())) for group in groups) or 1
