"""How fast an artifact is, measured in a process of its own."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from builder.build.artifact import loaded
from builder.build.entry import Entry
from builder.build.reference import make_network
from builder.compare.variants import artifact_path, label
from builder.errors import CompareError
from builder.networks.heads import as_tensors, in_order
from builder.tasks.task import Reference
from builder.types import Predict, Tensors
from builder.util.usercode import border

if TYPE_CHECKING:
    import torch

BATCH = 8
SECONDS_A_ROUND = 0.5
OWN = "pytorch fp32"


def measured(
    item: Entry, ready: Sequence[Entry], reference: Reference, folder: Path, rounds: int
) -> tuple[tuple[float, float], dict[str, tuple[float, float]]]:
    """(milliseconds of one sample, samples a second at batch 8) of the module and of each artifact.

    They take turns, round by round, since machines drift, each in a process of its own, since the
    threads of one framework slow another's down for as long as both are in memory.
    """
    jobs: dict[str, tuple[Entry, Path | None]] = {OWN: (item, None)}
    jobs |= {label(variant): (variant, artifact_path(variant, folder)) for variant in ready}
    bare = replace(reference, answers=None)  # they are many, and each process is sent all of it
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, (variant, artifact) in jobs.items():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                seen[name].append(_result(alone.submit(measure, variant, artifact, bare), name))
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


def measure(item: Entry, artifact: Path | None, reference: Reference) -> tuple[float, float]:
    """One round of an artifact, or of the module itself: milliseconds of one sample, samples a second of a batch."""
    os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # it would remark on its deprecated quantisation in each process
    import torch

    torch.set_num_threads(item.target.threads)
    one, batch = (next(iter(reference.samples.batches(size))) for size in (1, _batch_size(item)))
    name = label(item) if artifact else OWN
    with border(CompareError, f"{name} was verified, but fails when it is timed"):
        predict = _own(item, reference) if artifact is None else loaded(item, artifact, reference, item.target)
        for tensors in (one, batch):
            predict(tensors)
        return _seconds(predict, one) * 1000, _size(batch) / _seconds(predict, batch)


def _batch_size(item: Entry) -> int:
    most: int = item.spec.max_batch_size
    return max(1, min(BATCH, most))


def _size(batch: Tensors) -> int:
    first: torch.Tensor = next(iter(batch.values()))
    return len(first)


def _own(item: Entry, reference: Reference) -> Predict:
    import torch

    module = item.task.head(item, make_network(item), reference)
    inputs, outputs = ([t.name for t in side] for side in (reference.signature.inputs, reference.signature.outputs))

    def predict(tensors: Tensors) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            return as_tensors(outputs, module(*in_order(tensors, inputs)))

    return predict


def _seconds(predict: Predict, tensors: Tensors) -> float:
    """Median of as many calls as fit a round."""
    times: list[float] = []
    while sum(times) < SECONDS_A_ROUND:
        started = time.perf_counter()
        predict(tensors)
        times.append(time.perf_counter() - started)
    return statistics.median(times)
