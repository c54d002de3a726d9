"""What builds do to a repository, each kind once, and servers that are asked all the while."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from conftest import build, write_manifest

from builder.data.images import SAMPLES
from builder.errors import BuilderError
from builder.repository import staging
from builder.types import Endpoints
from client import Client

PHOTO = SAMPLES / "chelsea.jpg"
NOBODY = 65534
MODELS = ("m", "gone")
PREPROCESS = "{channels: 3, resize: 40, crop: 32, mean: [0.5, 0.4, 0.3], std: [0.2, 0.25, 0.3]}"
PAUSE_SECONDS = 0.1
"""Each server has ten answers a second by either protocol at most; what is left of the cores is for the builds."""
TOLERANCE = 1e-5
"""Batches of other sizes are summed in another order; other weights differ by a hundredth at least."""

KILLED = """
import os, signal, sys
from pathlib import Path
from builder.build.run import build_repository, resolve
from builder.manifest.models import load_manifest
folder, repository, renames = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
def hook(event, arguments):
    global renames
    if event == "os.rename" and str(arguments[1]).startswith(repository + "/"):
        renames -= 1
        if not renames:
            os.kill(os.getpid(), signal.SIGKILL)
entries = resolve(load_manifest(folder / "models.yaml"))
sys.addaudithook(hook)
build_repository(entries, Path(repository))
"""
# The first build, elsewhere, imports everything: the other user may not be able to read this environment.
BY_ANOTHER = """
import os, sys
from pathlib import Path
from builder.build.run import build_repository, resolve
from builder.manifest.models import load_manifest
manifest = Path(sys.argv[1]) / "models.yaml"
build_repository(resolve(load_manifest(manifest)), Path(sys.argv[1]) / "elsewhere")
os.setgroups([])
os.setgid(int(sys.argv[3]))
os.setuid(int(sys.argv[3]))
os.umask(0o077)
outcome = build_repository(resolve(load_manifest(manifest)), Path(sys.argv[2]))
sys.exit(str(outcome.failed[0].error) if outcome.failed else 0)
"""


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """An empty one, into which other users may look, as they may not into pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="build-repo-test-"))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder)


def entry(name: str = "m", **keys: str) -> str:
    """Of a manifest, with a small network as ONNX; `keys` replace what it says."""
    said = {
        "network": "small.py:small",
        "weights": "random",
        "format": "onnx",
        "labels": "[cat, dog, other]",
        "preprocess": PREPROCESS,
    } | keys
    return f"  {name}:\n" + "".join(f"    {key}: {value}\n" for key, value in said.items())


FIRST = "models:\n" + entry() + entry("gone", seed="7")


def weights(folder: Path, repository: Path) -> None:
    build(folder, "models:\n" + entry(seed="1"), repository)


def another_format(folder: Path, repository: Path) -> None:
    build(folder, "models:\n" + entry(seed="2", format="torchscript"), repository)


def precision(folder: Path, repository: Path) -> None:
    build(folder, "models:\n" + entry(seed="3", precision="fp16"), repository)


def classes(folder: Path, repository: Path) -> None:
    labels = "[a, b, c, d]"
    build(folder, "models:\n" + entry(seed="4", arguments="{num_classes: 4}", labels=labels), repository)


def recipe(folder: Path, repository: Path) -> None:
    build(
        folder,
        "models:\n" + entry(preprocess="{channels: 3, resize: 64, crop: 48, mean: [0, 0, 0], std: [1, 1, 1]}"),
        repository,
    )


def labels(folder: Path, repository: Path) -> None:
    build(folder, "models:\n" + entry(labels="[wolf, fox, other]"), repository)


def removed(folder: Path, repository: Path) -> None:
    """By hand, as long as there is no command; the next build takes away what only that entry used."""
    shutil.rmtree(repository / "gone")
    build(folder, "models:\n" + entry(seed="5"), repository)
    assert {path.name for path in repository.iterdir()}.isdisjoint({"gone", "gone_onnx"})


def failed(folder: Path, repository: Path) -> None:
    with pytest.raises(BuilderError):
        build(folder, "models:\n" + entry(network="small.py:Branching"), repository)


def killed(folder: Path, repository: Path) -> None:
    """In the middle of publishing a network of another shape, which takes a name of its own."""
    write_manifest(folder, "models:\n" + entry(arguments="{num_classes: 5}", labels="[a, b, c, d, e]"))
    done = _run(KILLED, folder, repository, 3)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]


def by_another_user(folder: Path, repository: Path) -> None:
    """One whose files nobody else may read."""
    if os.geteuid():
        weights(folder, repository)  # nobody else can be had
        return
    opened = [folder, repository, staging.staging_root(repository)]
    subprocess.run(["chmod", "-R", "a+rwX", *opened], check=True, timeout=60)
    write_manifest(folder, "models:\n" + entry(seed="6"))
    done = _run(BY_ANOTHER, folder, repository, NOBODY)
    assert done.returncode == 0, done.stderr[-2000:]


def _run(code: str, folder: Path, repository: Path, argument: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, str(folder), str(repository), str(argument)]
    environment = os.environ | {"HOME": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


CHANGES: dict[str, Callable[[Path, Path], None]] = {
    "weights": weights,
    "format": another_format,
    "precision": precision,
    "classes": classes,
    "recipe": recipe,
    "labels": labels,
    "failed": failed,
    "killed": killed,
    "another user": by_another_user,
    "removed": removed,
}


@dataclass
class Asked:
    """What became of the requests to one server by one protocol."""

    address: str
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@contextmanager
def asked(servers: Mapping[str, Endpoints]) -> Iterator[list[Asked]]:
    """While it lasts, every server is asked for every model again and again, by gRPC and by HTTP.

    What each answered at first is what it must answer all the time. A request that waits for longer than a minute
    counts as failed.
    """
    reports = [Asked(f"{name}, {url}") for name, ends in servers.items() for url in (ends.grpc, f"http://{ends.http}")]
    stop = threading.Event()
    threads = [threading.Thread(target=_ask, args=(report, stop)) for report in reports]
    for thread in threads:
        thread.start()
    try:
        yield reports
    finally:
        stop.set()
        for thread in threads:
            thread.join(120)
    assert not any(thread.is_alive() for thread in threads)


def _ask(report: Asked, stop: threading.Event) -> None:
    photo = PHOTO.read_bytes()
    # A machine that is short of everything has had workers given up just after the start; what is counted comes later.
    with Client(report.address.rpartition(", ")[2], retries=20, timeout=60) as patient:
        first = {model: _answer(patient, photo, model) for model in MODELS}
    with Client(report.address.rpartition(", ")[2], retries=0, timeout=60) as client:
        while not stop.wait(PAUSE_SECONDS):  # the builds need the machine, too
            for model, (names, probabilities) in first.items():
                try:
                    again, now = _answer(client, photo, model)
                except Exception as error:  # counted; raised in a thread it would only be printed
                    report.failed.append(f"{model}: {error!r}")
                    continue
                report.answered += 1
                if again != names or not np.allclose(now, probabilities, atol=TOLERANCE):
                    report.wrong.append(f"{model}: {again} {now}, before {names} {probabilities}")


def _answer(client: Client, photo: bytes, model: str) -> tuple[list[str], list[float]]:
    found = client.classify(photo, model)
    return [one.label for one in found], [one.probability for one in found]


def survived(reports: list[Asked], since: list[int]) -> None:
    """Raise AssertionError unless every server answered everything rightly, and did answer since then."""
    for report, before in zip(reports, since, strict=True):
        assert report.failed == [], report.address
        assert report.wrong == [], report.address
        assert report.answered > before, report.address


def build_all_kinds(folder: Path, repository: Path, reports: list[Asked]) -> None:
    """Every change once; after each, that nothing failed and that all still answer."""
    for name, change in CHANGES.items():
        before = [report.answered for report in reports]
        change(folder, repository)
        deadline = threading.Event()
        for _ in range(600):
            if all(report.answered > was or report.failed for report, was in zip(reports, before, strict=True)):
                break
            deadline.wait(0.1)
        try:
            survived(reports, before)
        except AssertionError as error:
            raise AssertionError(f"after a build with {name} changed: {error}") from None
