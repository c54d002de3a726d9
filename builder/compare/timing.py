"""How fast an artifact is, measured in a process of its own."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from builder.build.entry import Entry
from builder.build.reference import Reference, make_network
from builder.compare.variants import artifact_path, label
from builder.errors import CompareError
from builder.exporters.torch_run import as_predict
from builder.networks.classifier import as_classifier
from builder.types import Predict
from builder.util.usercode import border

if TYPE_CHECKING:
    import torch

BATCH = 8
SECONDS_A_ROUND = 0.5
OWN = "pytorch fp32"


def measured(
    item: Entry, ready: Sequence[Entry], reference: Reference, folder: Path, rounds: int
) -> tuple[tuple[float, float], dict[str, tuple[float, float]]]:
    """(milliseconds of one image, images a second at batch 8) of the module and of each artifact.

    They take turns, round by round, since machines drift, each in a process of its own, since the
    threads of one framework slow another's down for as long as both are in memory.
    """
    shape = (min(BATCH, item.spec.max_batch_size), *reference.recipe.shape)
    jobs: dict[str, tuple[Entry, Path | None]] = {OWN: (item, None)}
    jobs |= {label(variant): (variant, artifact_path(variant, folder)) for variant in ready}
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, (variant, artifact) in jobs.items():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                seen[name].append(_result(alone.submit(measure, variant, artifact, shape), name))
    medians = {
        name: (statistics.median(t for t, _ in times), statistics.median(r for _, r in times))
        for name, times in seen.items()
    }
    return medians.pop(OWN), medians


def _result(timing: Future[tuple[float, float]], name: str) -> tuple[float, float]:
    try:
        return timing.result()
    except BrokenProcessPool:
        raise CompareError(f"the process that timed {name} was ended; the usual cause is a lack of memory") from None


def measure(item: Entry, artifact: Path | None, shape: tuple[int, ...]) -> tuple[float, float]:
    """One round of an artifact, or of the module itself, on images of [B, C, H, W] `shape`."""
    os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # it would remark on its deprecated quantisation in each process
    import torch

    torch.set_num_threads(item.target.threads)
    batch = torch.rand(shape)
    name = label(item) if artifact else OWN
    with border(CompareError, f"{name} was verified, but fails when it is timed"):
        predict = _own(item) if artifact is None else item.exporter.load(artifact, item.target)
        for images in (batch[:1], batch):
            predict(images)
        return _seconds(predict, batch[:1]) * 1000, len(batch) / _seconds(predict, batch)


def _own(item: Entry) -> Predict:
    return as_predict(as_classifier(make_network(item).module, item.spec.activation), "cpu")


def _seconds(predict: Predict, images: torch.Tensor) -> float:
    """Median of as many calls as fit a round."""
    times: list[float] = []
    while sum(times) < SECONDS_A_ROUND:
        started = time.perf_counter()
        predict(images)
        times.append(time.perf_counter() - started)
    return statistics.median(times)
