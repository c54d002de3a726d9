"""Signals at random moments: every program ends in time, with its report and nothing half written."""

import contextlib
import csv
import functools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from conftest import build
from fake_triton import FakeTriton
from signalled import Plan, load
from training_sets import write_shapes

ROOT = Path(__file__).parent.parent
HERE = Path(__file__).parent
Fake = tuple[FakeTriton, str]
Runs = list[dict[str, Any]]
Storm = Callable[..., Runs]
pytestmark = pytest.mark.timeout(1600)
SEED = int(os.environ.get("SIGNALS_SEED", random.randrange(10**6)))
BEFORE_IT_BEGAN = (-signal.SIGINT, -signal.SIGTERM)
"""Statuses of a program that had no handler yet. It has done and said nothing then."""
CLIENT = ["client.cli", "tritonclient.grpc", "numpy", "rich.live", "rich.table", "pydantic.main", "http.client"]


@pytest.fixture(params=[50, pytest.param(1000, marks=pytest.mark.slow)])
def storm(request: pytest.FixtureRequest, tmp_path: Path) -> Storm:
    """Runs a program again and again until it was sent so many signals."""
    return functools.partial(run_storm, tmp_path, request.param)


def run_storm(
    folder: Path,
    signals: int,
    program: str,
    arguments: Sequence[object],
    times: int = 1,
    at_least: int = 0,
    environment: dict[str, str] | None = None,
    **settings: Any,
) -> Runs:
    """Each run ended by itself in time, and left no process and no shared memory.

    Runs that get many signals each are few, and need `at_least` so many in all to be of every kind.
    """
    plan = Plan(
        program, list(map(str, arguments)), str(folder / "runs"), SEED, max(signals * times, at_least), **settings
    )
    print(f"seed {SEED}")
    path = folder / "plan.json"
    path.write_text(json.dumps(asdict(plan)))
    before = shared()
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{HERE}", "GRPC_ENABLE_FORK_SUPPORT": "0"} | (environment or {})
    done = subprocess.run(
        [sys.executable, HERE / "signalled.py", path], capture_output=True, text=True, timeout=1500, env=environment
    )
    runs = load(done.stdout)
    assert done.returncode == 0, done.stderr
    late = [run for run in runs if run["late"]]
    assert not late, "\n".join((Path(run["folder"]) / "stderr").read_text() for run in late)
    assert sum(len(run["sent"]) for run in runs) >= plan.signals
    assert until(lambda: shared() <= before), "shared memory is left"
    for run in runs:
        assert "Traceback" not in said(run, "stderr"), said(run, "stderr")
        if run["code"] in BEFORE_IT_BEGAN:
            assert not said(run, "stdout")
            assert not said(run, "stderr")
    begun = [run for run in runs if run["code"] not in BEFORE_IT_BEGAN]
    print(f"{len(runs)} runs, {len(begun)} begun, slowest end {max(run['seconds'] for run in runs):.2f} s")
    assert len(begun) >= len(runs) // 2
    return begun


def said(run: dict[str, Any], stream: str) -> str:
    path = Path(run["folder"]) / stream
    return path.read_text() if path.exists() else ""


def shared() -> set[str]:
    """The shared memory of clients that no process holds: other tests' come and go."""
    names = {path.name for path in Path("/dev/shm").glob("repo-client-held-*")}
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            text = maps.read_text(errors="replace")
            names = {name for name in names if name not in text}
    return names


def until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize("program", ["client", "first_process"])
def test_waits(program: str, storm: Storm) -> None:
    imports = ["client.signals", "waits_alone", "http.client", "argparse", "urllib.request"]
    for run in storm(f"waits_alone:{program}", [], imports=imports, times=3, before=0.05, gap=0.0005, most=4):
        assert run["code"] == 0
        assert said(run, "stdout") == "waiting\nstopped\n"


def test_what_is_raised_is_raised_once(storm: Storm) -> None:
    for run in storm("waits_alone:builder", [], imports=["waits_alone"], times=3, before=0.05, gap=0.0005, most=4):
        assert run["code"] in {128 + number for number in run["sent"]}
        assert said(run, "stdout") in ("waiting\ncleaned\n", "cleaned\n")


def records(text: str) -> list[dict[str, Any]]:
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Files of which the stand-in calls a third the forbidden class."""
    folder = tmp_path / "template" / "uploads"
    folder.mkdir(parents=True)
    for number in range(12):
        (folder / f"{number:02}.jpg").write_bytes(b"cat" if number % 3 == 0 else b"dog")
    return folder


@pytest.fixture
def triton(fake: Fake) -> str:
    servicer, url = fake
    servicer.probabilities = lambda data: (0.1, 0.9) if data == b"cat" else (0.9, 0.1)
    servicer.behave = lambda *_: time.sleep(0.02)
    return url


def test_scan_log(storm: Storm, triton: str, pictures: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    line = '203.0.113.5 - - [10/Oct/2026:13:55:36 +0000] "GET /{} HTTP/1.1" 200 12 "-" "curl/8.0"\n'
    log.write_text("".join(line.format(path.name) for path in sorted(pictures.iterdir())))
    arguments = ["scan-log", "--url", triton, "--root", pictures, "-f", "--json", log]
    runs = storm("client.cli:main", arguments, imports=[*CLIENT, "client.access_log.run"])
    for run in runs:
        assert run["code"] == 0
        *found, report = records(said(run, "stdout"))
        assert len(found) == report["images"] == len(report["paths"])
    assert any(report_of(run)["images"] == 12 for run in runs)


def report_of(run: dict[str, Any]) -> dict[str, Any]:
    return records(said(run, "stdout"))[-1]


def test_moderate(storm: Storm, triton: str, pictures: Path) -> None:
    names = {path.name for path in pictures.iterdir()}
    arguments = ["moderate", "{run}/uploads", "--quarantine", "{run}/quarantine", "--forbid", "cat", "--url", triton]
    arguments += ["--settle", "0", "--interval", "0.05", "--json"]
    imports = [*CLIENT, "client.moderation.run", "client.moderation.rules", "PIL.Image", "sqlite3"]
    template = str(pictures.parent)
    runs = storm("client.cli:main", list(arguments), imports=imports, template=template)
    for run in runs:
        assert run["code"] == 0
        uploads, quarantine = (Path(run["folder"]) / name for name in ("uploads", "quarantine"))
        moved = {path.name for path in quarantine.glob("*.jpg")} if quarantine.exists() else set()
        assert {path.name for path in uploads.iterdir()} == names - moved
        printed = records(said(run, "stdout"))
        if quarantine.exists():
            audit = quarantine / "audit.jsonl"
            assert records(audit.read_text() if audit.exists() else "") == printed
            with sqlite3.connect(quarantine / ".moderate.sqlite") as journal:
                assert journal.execute("SELECT * FROM moves").fetchall() == []
            journal.close()
        assert {Path(record["path"]).name for record in printed if record["verdict"] == "forbidden"} == moved
    assert any(said(run, "stdout") for run in runs)


def test_top(storm: Storm, triton: str) -> None:
    arguments = ["top", "--url", triton, "--interval", "0.05", "--csv", "{run}/top.csv", "--metrics-url", "none"]
    runs = storm("client.cli:main", list(arguments), imports=[*CLIENT, "client.monitoring.reading", "psutil"])
    for run in runs:
        assert run["code"] == 0
        text = (Path(run["folder"]) / "top.csv").read_text() if (Path(run["folder"]) / "top.csv").exists() else ""
        assert not text or text.endswith("\n")
        rows = list(csv.reader(text.splitlines()))
        assert all(len(row) == len(rows[0]) for row in rows)
        assert not said(run, "stdout") or said(run, "stdout").endswith("\n")
    assert any("CPU" in said(run, "stdout") for run in runs)


def test_gateway(storm: Storm, triton: str) -> None:
    arguments = ["gateway", "--url", triton, "--port", "0", "--json"]
    imports = [*CLIENT, "tritonclient.grpc.aio", "client.gateway.app", "client.gateway.serve", "uvicorn"]
    for run in storm("client.cli:main", list(arguments), imports=imports):
        assert run["code"] == 0
        assert [set(record) for record in records(said(run, "stdout"))] == [{"url"}]


def test_classify(storm: Storm, triton: str, pictures: Path) -> None:
    (pictures / "large.jpg").write_bytes(bytes(700_000))  # by shared memory
    arguments = ["classify", pictures, "--csv", "{run}/out.csv", "--url", triton, "--concurrency", 2, "--batch-size", 1]
    imports = [*CLIENT, "client.batch.run"]
    runs = storm("client.cli:main", arguments, imports=imports, at_least=100, before=0.5, most=12)
    for run in runs:
        table, journal = (Path(run["folder"]) / name for name in ("out.csv", "out.csv.partial"))
        if run["code"] == 0:
            assert len(table.read_text().splitlines()) == 14
            assert not journal.exists()
        else:
            assert run["code"] in {128 + number for number in run["sent"]}
            assert not table.exists()
            assert len(records(journal.read_text() if journal.exists() else "")) <= 14
        assert {path.name for path in Path(run["folder"]).iterdir()} <= {
            "stdout", "stderr", "uploads", table.name, journal.name,
        }  # fmt: skip
    assert any(run["code"] != 0 for run in runs)


def test_first_process_of_a_container(storm: Storm, tmp_path: Path) -> None:
    """With a stand-in for NVIDIA's tritonserver: once it was ready, no mix of signals loses the drain."""
    server = tmp_path / "bin" / "tritonserver"
    server.parent.mkdir()
    server.write_text(f"#!{sys.executable} -IS\n" + (HERE / "standin_tritonserver.py").read_text())
    server.chmod(0o755)
    entry = ROOT / "builder" / "runtimes" / "container" / "entry.py"
    arguments = ["--unrestricted", "--linger", 0.05, "--http-port", "{port}", "--", "--stand-in-log={run}/server.log"]
    path = f"{server.parent}{os.pathsep}{os.environ['PATH']}"
    beside = os.pathsep.join(str(ROOT / "builder" / room) for room in ("launchers", "triton"))
    runs = storm(str(entry), arguments, environment={"PATH": path, "PYTHONPATH": beside}, ready="stderr")
    for run in runs:
        assert run["code"] == 0
        lines = [line for line in said(run, "stderr").splitlines() if line.startswith("build-repo: ")]
        assert lines[-1] == "build-repo: stopping: answering what is in flight ..."
        if "build-repo: ready" in lines:
            *unloaded, last = (Path(run["folder"]) / "server.log").read_text().splitlines()
            assert set(unloaded) == {"unloaded pets", "unloaded scores"}  # not the step
            assert last == "terminated"
    assert any("build-repo: ready" in said(run, "stderr") for run in runs)


def test_train(storm: Storm, tmp_path: Path) -> None:
    """What is there is whole, and a run that says so can be resumed."""
    import torch

    shapes = write_shapes(tmp_path / "shapes", 8)
    arguments = ["train", "--network", f"{HERE / 'networks' / 'small.py'}:small", "--data", "image_folder"]
    arguments += ["--root", shapes, "--out", "{run}/out", "--epochs", 300, "--batch-size", 8, "--device", "cpu"]
    arguments += ["--set", "data.workers=0", "--set", "checkpoint_minutes=0.0000001"]
    arguments += ["--set", "preprocess={channels: 3, resize: 36, crop: 32}"]
    imports = ["builder.cli", "torch", "builder.training.run", "torchmetrics.classification", "matplotlib.figure"]
    imports += ["torch.utils.tensorboard", "safetensors.torch", "PIL.Image", "torchvision.transforms.v2"]
    settings: dict[str, Any] = {"before": 2, "at_once": 2, "most": 20, "at_least": 100, "ready": "out/last.pt"}
    runs = storm("builder.cli:main", arguments, imports=imports, **settings)
    for run in runs:
        out = Path(run["folder"]) / "out"
        assert run["code"] in {128 + number for number in run["sent"]}
        assert not list(out.rglob("*.partial"))
        stopped = f"stopped; the same command goes on from the checkpoint in {out}" in said(run, "stderr")
        if stopped or (out / "last.pt").exists():
            torch.load(out / "last.pt", weights_only=True)
        if (out / "log.csv").exists():
            rows = list(csv.reader((out / "log.csv").read_text().splitlines()))
            assert {len(row) for row in rows} == {len(rows[0])}
    assert any("stopped; the same command" in said(run, "stderr") for run in runs)


def test_serve(storm: Storm, tmp_path: Path) -> None:
    """The real server: a storm while it starts, and storms when it is ready."""
    build(tmp_path, "models:\n  lenet: {weights: random, format: onnx}\n")
    ports = ["--http-port", 0, "--grpc-port", 0, "--metrics-port", 0, "--linger", 0.1]
    arguments = ["serve", "-r", tmp_path / "repository", "--json", *ports]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    settings: dict[str, Any] = {"imports": ["builder.cli", "numpy", "builder.launchers.embedded"], "most": 60}
    settings |= {"environment": {"TMPDIR": str(temporary)}, "before": 1, "at_once": 2, "at_least": 100}
    runs = storm("builder.cli:main", arguments, **settings)
    for run in runs:
        printed = records(said(run, "stdout"))
        if printed:
            assert run["code"] == 0
            assert printed[0]["ready"]
            assert "stopping: answering what is in flight" in said(run, "stderr")
        else:
            assert run["code"] in {128 + number for number in run["sent"]}
    assert not list(temporary.glob("build-repo-*"))
    assert any(said(run, "stdout") for run in runs)
