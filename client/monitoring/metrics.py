"""What Triton's /metrics tells beyond its statistics: quantiles, the machine, GPUs."""

from __future__ import annotations

import http.client
import math
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from client.endpoint import Endpoint

LARGEST = 16 * 1024 * 1024
DEFAULT_PORT = 8002
QUANTILES = {"0.5": "p50_ms", "0.99": "p99_ms"}


@dataclass(frozen=True)
class Gpu:
    name: str
    utilization: float | None = None
    """0..1"""
    memory_used: int | None = None
    memory_total: int | None = None
    power_watts: float | None = None
    celsius: int | None = None


@dataclass(frozen=True)
class Metrics:
    quantiles: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    """By model and version: p50_ms and p99_ms of its requests, the queue included, of the last minute."""
    cpu: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    gpus: tuple[Gpu, ...] = ()


def default_url(endpoint: Endpoint) -> str:
    host = endpoint.address.split("/")[0].rpartition(":")[0]
    return f"http://{host}:{DEFAULT_PORT}/metrics"


def fetch(url: str, seconds: float = 2.0) -> str | None:
    """None if nothing answers there."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=seconds) as answer:
            return str(answer.read(LARGEST).decode("utf-8", "replace"))
    except (OSError, ValueError, http.client.HTTPException):
        return None


def parse(text: str) -> Metrics:
    """What is not understood is left out."""
    values = _values(text)
    total = _whole(_only(values["nv_cpu_memory_total_bytes"]))
    metrics = Metrics(_quantiles(values["nv_inference_request_summary_us"]), gpus=tuple(_gpus(values)))
    if not total:  # a server that has just started gives zeros
        return metrics
    used = _whole(_only(values["nv_cpu_memory_used_bytes"]))
    return replace(metrics, cpu=_only(values["nv_cpu_utilization"]), memory_used=used, memory_total=total)


Values = list[tuple[dict[str, str], float]]


def _values(text: str) -> dict[str, Values]:
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, Values] = defaultdict(list)
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if math.isfinite(sample.value):
                    found[sample.name].append((sample.labels, sample.value))
    except (ValueError, KeyError, IndexError):  # not Prometheus' format, or cut short
        pass
    return found


def _quantiles(values: Values) -> dict[tuple[str, str], dict[str, float]]:
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for labels, value in values:
        name = QUANTILES.get(labels.get("quantile", ""))
        if name:
            found[labels.get("model", ""), labels.get("version", "")][name] = value / 1000
    return dict(found)


def _gpus(values: dict[str, Values]) -> Iterator[Gpu]:
    by_gpu: dict[str, dict[str, float]] = defaultdict(dict)
    for name in ("utilization", "memory_used_bytes", "memory_total_bytes", "power_usage"):
        for labels, value in values[f"nv_gpu_{name}"]:
            by_gpu[labels.get("gpu_uuid", "")][name] = value
    for uuid, facts in sorted(by_gpu.items()):
        memory = (_whole(facts.get("memory_used_bytes")), _whole(facts.get("memory_total_bytes")))
        yield Gpu(uuid, facts.get("utilization"), *memory, facts.get("power_usage"))


def _only(values: Values) -> float | None:
    return values[0][1] if values else None


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
