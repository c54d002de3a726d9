"""Kubernetes: a Kustomize base with an overlay a kind of machine, and the same for KServe.

Needs Kubernetes 1.30 or newer, for the sleep before a pod stops.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from builder.deploy import files, sizing
from builder.deploy.image import pinned
from builder.deploy.source import Fetch, Source, require_name
from builder.deploy.variants import variants
from builder.errors import DeployError
from builder.repository.served import Served, digest

TEMPLATES = "kubernetes"
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", re.ASCII)
OWN_LABELS = "app.kubernetes.io/"
LABEL_KEY = re.compile(
    r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", re.ASCII
)
LONGEST_NAME = 40
"""63 is what Kubernetes takes, of which the names of variants, Services and pods need some."""
PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
PROTOCOLS = {"v2": ("http", "http1"), "grpc-v2": ("grpc", "h2c")}
"""KServe's names, the ports that speak them, and what KServe wants such a port to be called."""
ADMIN_FOLDER, ADMIN_FILE = "/run/secrets/build-repo", "admin.key"
WITHDRAWAL_SECONDS = 10
"""From a pod's end being decided until no proxy sends it requests any more."""
PROBE_PERIOD_SECONDS = 5
PULL_SECONDS = 900
"""For the image, of 10 GB or so, on a node that has not got it."""
HEADROOM = 1.25
TEMPORARY_BYTES = 1024 * sizing.MIB
LOG_BYTES = 512 * sizing.MIB


@dataclass(frozen=True)
class Place:
    name: str = "triton"
    namespace: str | None = None
    """None: that of whoever applies the files."""
    architecture: str = "amd64"
    runtime_class: str | None = None


@dataclass(frozen=True)
class Scale:
    """Of each kind of machine."""

    min_replicas: int = 2
    max_replicas: int = 8
    queue_ms: int = 20
    """Mean wait in the slowest model's queue, above which pods are added."""


@dataclass(frozen=True)
class Sizes:
    """Of a pod. None: by the repository; see sizing.py."""

    cpus: int | None = None
    memory_mib: int | None = None
    gpus: int = 1
    startup_seconds: int | None = None


@dataclass(frozen=True)
class NetworkAccess:
    client_namespaces: tuple[str, ...] = ()
    """By name; none: those with the label build-repo/client-of: NAME."""
    monitoring_namespace: str = "monitoring"
    egress_cidr: str = "0.0.0.0/0"
    """Where the repository is fetched from."""


@dataclass(frozen=True)
class Monitors:
    """ServiceMonitors of the Prometheus operator."""

    wanted: bool = True
    labels: dict[str, str] = field(default_factory=dict)
    """By which the cluster's Prometheus finds them."""


@dataclass(frozen=True)
class Options:
    image: str
    source: Source
    place: Place = Place()
    scale: Scale = Scale()
    sizes: Sizes = Sizes()
    network: NetworkAccess = NetworkAccess()
    monitors: Monitors = field(default_factory=Monitors)
    admin_secret: str | None = None
    """That holds the key to Triton's model control, as `admin.key`; None: nobody controls it."""
    kserve_protocol: str = "v2"
    pull_secret: str | None = None
    """With which nodes pull from a registry that is not open to all."""


def render(models: Sequence[Served], options: Options) -> dict[str, str]:
    """Texts by file name: base/, overlays/<variant>/, fleet/, kserve/<variant>/, monitoring/. Raises DeployError."""
    _require_sense(options)
    chosen = variants(models)
    values, kserve = _values(models, options), KSERVE_FILES + _monitor_files(options)
    texts = _folder("base", _base_files(options), values)
    for variant in chosen:
        of_variant = values | {"variant": variant, "is_patched": bool(variant.needs_gpu or variant.node_labels)}
        names = ["kustomization.yaml", *(["deployment.yaml"] if of_variant["is_patched"] else [])]
        texts |= _folder("overlay", names, of_variant, f"overlays/{variant.name}")
        texts |= _folder("kserve", kserve, of_variant, f"kserve/{variant.name}")
    texts |= _folder("fleet", ["kustomization.yaml", "services.yaml"], values | {"variants": chosen})
    return texts | _folder("monitoring", ["prometheus-adapter.yaml"], values)


KSERVE_FILES = [
    "kustomization.yaml",
    "serving-runtime.yaml",
    "inference-service.yaml",
    "service-account.yaml",
    "horizontal-pod-autoscaler.yaml",
    "pod-disruption-budget.yaml",
]


def _base_files(options: Options) -> list[str]:
    names = [
        "kustomization.yaml",
        "deployment.yaml",
        "services.yaml",
        "service-account.yaml",
        "network-policy.yaml",
        "pod-disruption-budget.yaml",
        "horizontal-pod-autoscaler.yaml",
    ]
    return names + _monitor_files(options)


def _monitor_files(options: Options) -> list[str]:
    return ["service-monitor.yaml"] if options.monitors.wanted else []


def _folder(template: str, names: Sequence[str], values: dict[str, Any], folder: str | None = None) -> dict[str, str]:
    own = values | {"files": [name for name in names if name.endswith(".yaml") and name != "kustomization.yaml"]}
    return {f"{folder or template}/{name}": files.render(f"{TEMPLATES}/{template}/{name}", **own) for name in names}


def _values(models: Sequence[Served], options: Options) -> dict[str, Any]:
    size = sizing.repository_bytes(models)
    room = sizing.mebibytes(HEADROOM * size) + 64
    temporary = sizing.mebibytes(TEMPORARY_BYTES + size)
    return {
        "o": options,
        "source": options.source,
        "fetch": options.source.fetch and _unexpanded(options.source.fetch),
        "ports": PORTS,
        "admin_folder": ADMIN_FOLDER,
        "digest": digest(models),
        "repository_mib": room,
        "temporary_mib": temporary,
        "disk_mib": room + temporary + sizing.mebibytes(LOG_BYTES),
        "withdrawal_seconds": WITHDRAWAL_SECONDS,
        "grace_seconds": WITHDRAWAL_SECONDS + sizing.STOP_SECONDS,
        "period_seconds": PROBE_PERIOD_SECONDS,
        "args": _args(options.source.path, options.admin_secret),
        "kserve_args": _args(
            KSERVE_MODELS if options.source.storage_uri else options.source.path, options.admin_secret
        ),
        "kserve_ports": _kserve_ports(options.kserve_protocol),
        **_sizes(models, options.sizes, size),
    }


KSERVE_MODELS = "/mnt/models"
"""Where KServe puts what it fetches."""


def _sizes(models: Sequence[Served], sizes: Sizes, size: int) -> dict[str, int]:
    startup = sizes.startup_seconds or sizing.startup_seconds(models)
    return {
        "cpus": sizes.cpus or sizing.cpus(models),
        "memory_mib": sizes.memory_mib or sizing.mebibytes(sizing.memory_bytes(models)),
        "shared_memory_mib": sizing.mebibytes(sizing.shared_memory_bytes(models)),
        "gpus": sizes.gpus,
        "startup_failures": math.ceil(startup / PROBE_PERIOD_SECONDS),
        "startup_seconds": startup,
        "progress_seconds": PULL_SECONDS + sizing.CAUTION * sizing.download_seconds(size) + startup,
    }


def _args(repository: str, admin_secret: str | None) -> list[str]:
    """What both kinds of image take; their entry points start, drain and stop the server."""
    words = ["--repository", repository]
    for name, port in PORTS.items():
        words += [f"--{name}-port", str(port)]
    return words + (["--admin-key-file", f"{ADMIN_FOLDER}/{ADMIN_FILE}"] if admin_secret else [])


def _unexpanded(fetch: Fetch) -> Fetch:
    """Kubernetes puts variables in for $(NAME), and reads $$ as $."""

    def twice(words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(word.replace("$", "$$") for word in words)

    env = dict(zip(fetch.env, twice(tuple(fetch.env.values())), strict=True))
    return replace(fetch, args=twice(fetch.args), command=twice(fetch.command), env=env)


def _kserve_ports(protocol: str) -> dict[str, int]:
    port, name = PROTOCOLS[protocol]
    return {name: PORTS[port]} | {other: number for other, number in PORTS.items() if other != port}


def apply_command(folder: Path) -> str:
    return f"kubectl apply -k {shlex.quote(str(folder / 'fleet'))}"


def labels(pairs: Sequence[str]) -> dict[str, str]:
    """Of KEY=VALUE each. Raises DeployError."""
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if key.startswith(OWN_LABELS):
            raise DeployError(f"the label {key} is the deployment's own; choose another")
        if not separator or not LABEL_KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
            raise DeployError(f"{pair!r} is no label; give it as KEY=VALUE, such as release=prometheus")
    return dict(pair.split("=", 1) for pair in pairs)


def _require_sense(options: Options) -> None:
    pinned(options.image)
    if not 1 <= options.scale.min_replicas <= options.scale.max_replicas:
        raise DeployError(f"from {options.scale.min_replicas} to {options.scale.max_replicas} replicas is no range")
    if options.admin_secret is not None:
        require_name(options.admin_secret, "Secret")
    if options.pull_secret is not None:
        require_name(options.pull_secret, "Secret")
    if options.kserve_protocol not in PROTOCOLS:
        raise DeployError(f"KServe has no protocol {options.kserve_protocol!r}; choose {', '.join(PROTOCOLS)}")
    _require_place(options.place)
    _require_network(options.network)


def _require_place(place: Place) -> None:
    require_name(place.name, "deployment")
    if "." in place.name or len(place.name) > LONGEST_NAME or not place.name[0].isalpha():
        raise DeployError(
            f"{place.name!r} becomes a host name: up to {LONGEST_NAME} characters, no dots, a letter first"
        )
    for name, what in ((place.namespace, "namespace"), (place.runtime_class, "runtime class")):
        if name is not None:
            require_name(name, what)
    if not LABEL_VALUE.fullmatch(place.architecture):
        raise DeployError(f"{place.architecture!r} is no architecture, such as amd64")


def _require_network(network: NetworkAccess) -> None:
    import ipaddress

    for namespace in (*network.client_namespaces, network.monitoring_namespace):
        require_name(namespace, "namespace")
    try:
        ipaddress.ip_network(network.egress_cidr)
    except ValueError as error:
        raise DeployError(f"--egress-cidr: {error}; give it as 10.0.0.0/8") from None
