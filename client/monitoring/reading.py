"""Reads a server's counters, over and over."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from client.errors import ModelNotFound
from client.monitoring import metrics as scraping
from client.monitoring.frames import Frame, Key, Reading, between
from client.monitoring.machine import Gpus, cpu_and_memory

if TYPE_CHECKING:
    from client.client import Client


NO_METRICS = "none"


class Reader:
    """Gives the frame since the last call, of one model or of all; steps of ensembles only if `steps` is set."""

    def __init__(
        self,
        client: Client,
        metrics_url: str | None = None,
        model: str | None = None,
        steps: bool = False,
        gpus: Gpus | None = None,
    ) -> None:
        self._client, self._model, self._shows_steps = client, model, steps
        self._metrics_url = metrics_url or scraping.default_url(client.endpoint)
        self._gpus = gpus or Gpus()
        self._steps: dict[str, tuple[str, ...]] = {}
        self._keys: set[Key] = set()
        self._before: Reading | None = None

    def close(self) -> None:
        self._gpus.close()

    def frame(self) -> Frame | None:
        """None the first time, and the first time after the server was away. Raises ClientError."""
        try:
            now = self._reading()
        except BaseException:
            self._before = None
            raise
        before, self._before = self._before, now
        return between(before, now, self._steps, self._hidden()) if before else None

    def _reading(self) -> Reading:
        statistics = {(item.name, item.version): item for item in self._client.statistics()}
        self._learn_steps(statistics)
        if self._model and self._model not in self._steps:
            raise ModelNotFound(f"{self._model} is not served; there are: {', '.join(sorted(self._steps)) or 'none'}")
        text = None if self._metrics_url == NO_METRICS else scraping.fetch(self._metrics_url)
        return Reading(time.monotonic(), statistics, self._with_machine(scraping.parse(text or "")))

    def _learn_steps(self, keys: Iterable[Key]) -> None:
        """When models or versions come and go."""
        if set(keys) != self._keys:
            self._keys = set(keys)
            self._steps = {name: self._client.model(name).steps for name in {name for name, _ in keys}}

    def _hidden(self) -> set[str]:
        if self._model:
            return set(self._steps) - {self._model}
        return set() if self._shows_steps else {step for steps in self._steps.values() for step in steps}

    def _with_machine(self, metrics: scraping.Metrics) -> scraping.Metrics:
        """What /metrics leaves out, where the server is on this machine."""
        if not self._client.endpoint.is_local:
            return metrics
        gpus = self._gpus.read() or metrics.gpus
        if metrics.cpu is not None:
            return dataclasses.replace(metrics, gpus=gpus)
        cpu, used, total = cpu_and_memory()
        return dataclasses.replace(metrics, cpu=cpu, memory_used=used, memory_total=total, gpus=gpus)
