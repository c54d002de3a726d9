"""Two readings of the counters -> what happened between them."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from client.monitoring.metrics import Gpu, Metrics
from client.types import ModelStatistics, Spent

Key = tuple[str, str]
"""A model's name and version."""
ENSEMBLES_VERSION = "1"


@dataclass(frozen=True)
class Reading:
    """Counters since the server started, at one moment."""

    seconds: float
    """Of a clock that never goes back."""
    models: Mapping[Key, ModelStatistics] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)


@dataclass(frozen=True)
class ModelFrame:
    """One model in one interval. Times are means of the requests that ended in it; None where there were none."""

    model: str
    version: str
    requests_per_s: float
    images_per_s: float
    failures_per_s: float
    """As the server counts; Triton 2.51 counts a failure of an ensemble twice."""
    queue_ms: float | None
    compute_ms: float | None
    """Copying in and out included."""
    batch: float | None
    """Rows that were computed together."""
    p50_ms: float | None
    p99_ms: float | None
    requests: int
    """Since the server started, as the next."""
    failures: int


@dataclass(frozen=True)
class Frame:
    interval: float
    models: tuple[ModelFrame, ...]
    cpu: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    gpus: tuple[Gpu, ...] = ()


def between(before: Reading, now: Reading, steps: Mapping[str, tuple[str, ...]], hidden: Collection[str] = ()) -> Frame:
    """`steps` names the models that an ensemble is made of: it batches nothing itself, its last step does."""
    interval = max(now.seconds - before.seconds, 1e-9)
    batches = {key[0]: _batch(before.models.get(key), model) for key, model in now.models.items()}
    quantiles = functools.partial(_quantiles, now.metrics, steps)
    frames = [
        _model_frame(before.models.get(key), model, interval, _inside(key[0], steps, batches), quantiles(key))
        for key, model in now.models.items()
        if key[0] not in hidden
    ]
    metrics = now.metrics
    return Frame(
        interval, tuple(_busiest_first(frames)), metrics.cpu, metrics.memory_used, metrics.memory_total, metrics.gpus
    )


def _quantiles(metrics: Metrics, steps: Mapping[str, tuple[str, ...]], key: Key) -> Mapping[str, float]:
    """Triton keeps those of an ensemble under version 1, whichever is served, and none that count under its own."""
    found = metrics.quantiles.get(key, {})
    is_ensembles = bool(steps.get(key[0]))
    return found if found or not is_ensembles else metrics.quantiles.get((key[0], ENSEMBLES_VERSION), {})


def _model_frame(
    before: ModelStatistics | None,
    now: ModelStatistics,
    interval: float,
    batch: float | None,
    quantiles: Mapping[str, float],
) -> ModelFrame:
    success, failure = (
        _delta(before.success if before else None, now.success),
        _delta(before.failure if before else None, now.failure),
    )
    computing = ("compute_input", "compute_infer", "compute_output")
    compute = [_delta(getattr(before, name) if before else None, getattr(now, name)) for name in computing]
    images = _count_delta(before.inferences if before else None, now.inferences)
    return ModelFrame(
        model=now.name,
        version=now.version,
        requests_per_s=success.count / interval,
        images_per_s=images / interval,
        failures_per_s=failure.count / interval,
        queue_ms=_mean_ms(_delta(before.queue if before else None, now.queue)),
        compute_ms=_mean_ms(Spent(compute[1].count, sum(part.ns for part in compute))),
        batch=batch,
        p50_ms=quantiles.get("p50_ms"),
        p99_ms=quantiles.get("p99_ms"),
        requests=now.success.count,
        failures=now.failure.count,
    )


def _inside(name: str, steps: Mapping[str, tuple[str, ...]], batches: Mapping[str, float | None]) -> float | None:
    last = steps.get(name, ())[-1:]
    return batches.get(last[0]) if last else batches[name]


def _batch(before: ModelStatistics | None, now: ModelStatistics) -> float | None:
    executions = _count_delta(before.executions if before else None, now.executions)
    return _count_delta(before.inferences if before else None, now.inferences) / executions if executions else None


def _delta(before: Spent | None, now: Spent) -> Spent:
    return Spent(
        _count_delta(before.count if before else None, now.count), _count_delta(before.ns if before else None, now.ns)
    )


def _count_delta(before: int | None, now: int) -> int:
    """A counter that went back was started anew, with the server or the model."""
    return now - before if before is not None and now >= before else now


def _mean_ms(spent: Spent) -> float | None:
    return spent.ns / spent.count / 1e6 if spent.count else None


def _busiest_first(frames: Iterable[ModelFrame]) -> list[ModelFrame]:
    return sorted(frames, key=lambda frame: (-frame.requests_per_s, -frame.requests, frame.model, frame.version))
