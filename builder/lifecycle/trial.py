"""Candidates asked what was recorded of them, before they take traffic."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from builder.errors import RolloutError
from builder.lifecycle.candidate import Candidate, copied
from builder.repository import golden
from builder.repository.golden import Golden, GoldenSet, GoldenTensor
from builder.triton.connection import Answer, Connection

PREFIX = "build-repo-trial-"
"""What a candidate is called while it is tried."""
FILLER = "nothing"
"""A file for the folder of a version that has none."""
ROUNDS = 9
UNLOAD_SECONDS = 5.0
Ask = Callable[[Golden], Answer]


def name_of(model: str) -> str:
    return f"{PREFIX}{model}"


@contextmanager
def beside(connection: Connection, candidate: Candidate, put: Callable[..., None]) -> Iterator[str]:
    """The candidate loaded under another name, which is given. `put` is Loader's. Raises RolloutError."""
    name = name_of(candidate.name)
    config = copied(candidate.config(candidate.served.asked))
    config.name = name
    config.ClearField("model_warmup")  # it is asked something better
    files = {path: file.read_bytes() for path, file in candidate.files().items()}
    try:
        put(name, config, files or {f"{candidate.version}/{FILLER}": b"-"})
        yield name
    finally:
        forget(connection, candidate.name)


def forget(connection: Connection, model: str) -> None:
    """Have a trial's model go. One that hangs goes when that ends: nobody waits for it."""
    try:
        connection.unload_model(name_of(model), UNLOAD_SECONDS)
    except RolloutError as error:
        if type(error) is not RolloutError:
            raise


def size(candidate: Candidate) -> int:
    return sum(file.stat().st_size for file in candidate.files().values())


def hold(ask: Ask, goldens: GoldenSet, count: int | None = None) -> None:
    """Raise RolloutError, with figures, where an answer is not the one that was recorded."""
    for number, sample in enumerate(goldens.samples[:count], 1):
        if wrong := _wrong(sample, ask(sample), goldens.tolerance):
            raise RolloutError(
                f"golden sample {number} of {len(goldens.samples)} is not answered as it was built: {wrong}"
            )


def _wrong(sample: Golden, answer: Answer, tolerance: float) -> str:
    found = {out.name: GoldenTensor(out.name, out.data_type, out.shape, out.data) for out in answer.outputs}
    return golden.unlike(sample, found, tolerance)


def hold_pace(candidate: Ask, before: Ask, goldens: GoldenSet, most: float) -> str:
    """What was measured. Raises RolloutError if the candidate takes longer than `most` times what the old one does."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(ROUNDS + 1):
        for ask, taken in zip((before, candidate), times, strict=True):
            seconds = [_timed(ask, sample) for sample in goldens.samples]
            if turn:  # the first of each is for caches
                taken += seconds
    old, new = (statistics.median(taken) * 1000 for taken in times)
    told = f"{new:.1f} ms a request, the old version {old:.1f} ms: {new / old:.2f} times as long"
    if new > most * old:
        raise RolloutError(f"it is too slow: {told}, allowed {most:g}")
    return told


def _timed(ask: Ask, sample: Golden) -> float:
    started = time.perf_counter()
    ask(sample)
    return time.perf_counter() - started
