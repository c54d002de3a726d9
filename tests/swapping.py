"""Versions of one model that are published one after the other, sound ones and others, and servers asked meanwhile."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from conftest import build
from rebuilding import entry

from builder.repository import golden, layout
from builder.triton import model_config
from builder.triton.connection import Access, Answer, connected

MODEL, NETWORK = "m", "m_onnx"
TOLERANCE = 1e-5
"""Batches of other sizes are summed in another order; other weights differ by a hundredth at least."""
PAUSE_S = 0.01
SOUND = (1, 2, 3)
HANGING = """
import os, time
class TritonPythonModel:
    def initialize(self, args):
        deadline = time.monotonic() + 100
        while not os.path.exists({path!r}) and time.monotonic() < deadline:
            time.sleep(0.05)
    def execute(self, requests):
        return []
"""
"""A step that is not ready until a file is there."""


def built(folder: Path) -> Path:
    """A repository with a version for each of SOUND."""
    for seed in SOUND:
        build(folder, "models:\n" + entry(seed=str(seed)))
    return folder / "repository"


def publish(repository: Path, number: int) -> None:
    """Make a version that is there what is published."""
    for model in (NETWORK, MODEL):
        text = (repository / model / str(number) / layout.CONFIG).read_text()
        temporary = repository.parent / f"{model}.pbtxt"
        temporary.write_text(text)
        temporary.replace(repository / model / layout.CONFIG)


def add(repository: Path, number: int, source: int, change: Callable[[Any, Any], None] = lambda *_: None) -> None:
    """A version more, a copy of another; `change` is given the configs of its ensemble and its network."""
    configs = {}
    for model in (MODEL, NETWORK):
        folder = repository / model / str(number)
        shutil.copytree(repository / model / str(source), folder)
        configs[model] = model_config.read(folder / layout.CONFIG)
        configs[model].version_policy.specific.versions[:] = [number]
        for output in configs[model].output:
            output.label_filename = f"{number}/{layout.LABELS}"
    for step in configs[MODEL].ensemble_scheduling.step:
        if step.model_name == NETWORK:
            step.model_version = number
    change(configs[MODEL], configs[NETWORK])
    for model, config in configs.items():
        config.parameters["built_at"].string_value = f"copy {number}"
        (repository / model / str(number) / layout.CONFIG).write_text(model_config.to_text(config))


def corrupt(repository: Path, number: int, source: int) -> None:
    """Its artifact is cut off."""
    add(repository, number, source)
    artifact = repository / NETWORK / str(number) / "model.onnx"
    artifact.write_bytes(artifact.read_bytes()[:1000])


def other_network(repository: Path, number: int, source: int) -> None:
    """Of the right shape, and not the one whose answers were recorded."""
    add(repository, number, source)
    other = next(version for version in SOUND if version != source)
    shutil.copy(repository / NETWORK / str(other) / "model.onnx", repository / NETWORK / str(number) / "model.onnx")


def unloadable(repository: Path, number: int, source: int) -> None:
    """Its config names a file that is not there."""

    def change(_: Any, network: Any) -> None:
        network.default_model_filename = "gone.onnx"

    add(repository, number, source, change)


def hanging_step(repository: Path, number: int, source: int) -> None:
    """A step of its own that is not ready until `let_go`."""
    name = f"preprocess_hangs{number}"

    def change(ensemble: Any, _: Any) -> None:
        step = next(step for step in ensemble.ensemble_scheduling.step if step.model_name != NETWORK)
        shutil.copytree(repository / step.model_name, repository / name)
        step.model_name = name

    add(repository, number, source, change)
    config = model_config.read(repository / name / layout.CONFIG)
    config.name = name
    config.ClearField("model_warmup")
    (repository / name / layout.CONFIG).write_text(model_config.to_text(config))
    (repository / name / "1" / "model.py").write_text(HANGING.format(path=str(repository.parent / name)))


def let_go(repository: Path, number: int) -> None:
    (repository.parent / f"preprocess_hangs{number}").touch()


SABOTAGE: Sequence[tuple[Callable[[Path, int, int], None], str]] = (
    (corrupt, "Protobuf parsing failed"),
    (other_network, "golden sample 1 of .* is off by"),
    (unloadable, "gone.onnx failed"),
    (hanging_step, "was not loaded within"),
)
"""With what is said of it."""


@dataclass
class Load:
    """What became of requests without a pause."""

    answers: dict[int, Any]
    """By version, what it must answer."""
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    times: list[tuple[float, float]] = field(default_factory=list)
    """Of each request, when it began and how long it took."""
    seen: list[int] = field(default_factory=list)

    def take(self, began: float, answer: Answer) -> None:
        self.times.append((began, time.monotonic() - began))
        self.seen.append(answer.version)
        found = scores(answer.outputs[0])
        expected = self.answers.get(answer.version)
        if expected is None or not np.allclose(found, expected, atol=TOLERANCE):
            self.wrong.append(f"version {answer.version}: {found}, not {expected}")


def scores(tensor: Any) -> Any:
    return np.frombuffer(tensor.data, "<f4").reshape(tensor.shape)


def sample(repository: Path, number: int) -> golden.Golden:
    goldens = golden.read(repository / MODEL / str(number))
    assert goldens is not None
    return goldens.samples[0]


@contextmanager
def asked(repository: Path, urls: Sequence[str], threads: int = 2) -> Iterator[Load]:
    """While it lasts, the servers are asked what the golden samples ask, by so many threads each."""
    load = Load({number: scores(sample(repository, number).outputs[0]) for number in SOUND})
    stop = threading.Event()
    running = [
        threading.Thread(target=_ask, args=(load, repository, url, stop)) for url in urls for _ in range(threads)
    ]
    for thread in running:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in running:
            thread.join(90)
    assert not any(thread.is_alive() for thread in running)


def _ask(load: Load, repository: Path, url: str, stop: threading.Event) -> None:
    connection, inputs = connected(Access(url)), sample(repository, SOUND[0]).inputs
    try:
        while not stop.wait(PAUSE_S):
            began = time.monotonic()
            try:
                load.take(began, connection.infer(MODEL, inputs, seconds=60))
            except Exception as error:  # counted; raised in a thread it would only be printed
                load.failed.append(repr(error))
    finally:
        connection.close()


def memory(pid: int) -> int:
    """Bytes that a process and its children have resident for themselves."""
    process = psutil.Process(pid)
    found = 0
    for each in (process, *process.children(recursive=True)):
        try:
            found += each.memory_full_info().uss
        except psutil.NoSuchProcess:
            continue
    return found


def p99(times: Sequence[float]) -> float:
    return float(np.quantile(times, 0.99))
