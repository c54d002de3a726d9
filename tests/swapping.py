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
from client import Client

MODEL, NETWORK = "m", "m_onnx"
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
    artifact = repository / NETWORK / str(number) / "model.onnx"
    others = [(repository / NETWORK / str(version) / "model.onnx").read_bytes() for version in SOUND]
    artifact.write_bytes(next(other for other in others if other != artifact.read_bytes()))


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


Sabotage = Callable[[Path, int, int], None]
"""Adds a version of a number, made of another, to a repository."""
SABOTAGE: Sequence[tuple[Sabotage, str]] = (
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
    seen: set[int] = field(default_factory=set)

    def expect(self, repository: Path, number: int) -> None:
        """That this version may answer from now on."""
        self.answers[number] = scores(sample(repository, number).outputs[0])

    def take_classes(self, began: float, found: Sequence[float]) -> None:
        """Probabilities, the highest first."""
        self.times.append((began, time.monotonic() - began))
        if list(found) not in [as_classes(one[0]) for one in list(self.answers.values())]:
            self.wrong.append(f"classes of no version: {found}")

    def take(self, began: float, answer: Answer) -> None:
        self.times.append((began, time.monotonic() - began))
        self.seen.add(answer.version)
        found = scores(answer.outputs[0])
        expected = self.answers.get(answer.version)
        if expected is None or not np.array_equal(found, expected):  # to the bit: so small a network has one order
            self.wrong.append(f"version {answer.version}: {found}, not {expected}")


def as_classes(found: Any) -> list[float]:
    """The highest first, with the six digits with which Triton writes them."""
    return [float(f"{one:f}") for one in np.sort(found)[::-1]]


def scores(tensor: Any) -> Any:
    return np.frombuffer(tensor.data, "<f4").reshape(tensor.shape)


def sample(repository: Path, number: int, model: str = MODEL) -> golden.Golden:
    goldens = golden.read(repository / model / str(number))
    assert goldens is not None
    return goldens.samples[0]


@contextmanager
def asked(repository: Path, urls: Sequence[str]) -> Iterator[Load]:
    """While it lasts, the servers are asked what the golden samples ask: each as it is, and for classes."""
    load, stop = Load({}), threading.Event()
    for number in SOUND:
        load.expect(repository, number)
    one = sample(repository, SOUND[0])
    running = [
        threading.Thread(target=_ask, args=(load, stop, url, one, classes)) for url in urls for classes in (True, False)
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


def _ask(load: Load, stop: threading.Event, url: str, one: golden.Golden, classes: bool) -> None:
    connection, client = connected(Access(url)), Client(url, retries=0, timeout=60)
    photo = one.inputs[0].data[4:]  # behind its length
    while not stop.wait(PAUSE_S):
        began = time.monotonic()
        try:
            if classes:
                load.take_classes(began, [each.probability for each in client.classify(photo, MODEL)])
            else:
                load.take(began, connection.infer(MODEL, one.inputs, seconds=60))
        except Exception as error:  # counted; raised in a thread it would only be printed
            load.failed.append(repr(error))
    connection.close()
    client.close()


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
