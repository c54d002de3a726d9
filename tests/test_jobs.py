"""Builds in several processes: the same as in one, whatever becomes of a process."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import NETWORKS, write_manifest
from processes import started
from same import content
from waiting import until

from builder.build.run import Outcome, build_repository, resolve
from builder.errors import NetworkError, WeightsError, WorkerError
from builder.executors.processes import build_in_processes
from builder.manifest.models import load_manifest
from builder.repository import lock, staging
from builder.util import hashing

SMALL = "network: small.py:small, preprocess: {channels: 3, resize: 40, crop: 32}, weights: random"
MANIFEST = f"""models:
  torchscript: {{{SMALL}, format: torchscript}}
  lost: {{network: lenet, weights: lost.pth}}
  onnx: {{{SMALL}, format: onnx}}
  openvino: {{{SMALL}, format: openvino}}
  fails: {{network: small.py:failing, weights: included, preprocess: {{channels: 3, resize: 40, crop: 32}}}}
  lenet: {{weights: random, seed: 2}}
"""


def write(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    shutil.copy(NETWORKS.parent / "ending.py", folder)
    return write_manifest(folder, text)


def figures(outcome: Outcome) -> list[object]:
    """What the table of a build says, times excepted."""
    return [replace(model, seconds=0) for model in outcome.built]


def test_same_as_in_one_process(tmp_path: Path) -> None:
    path = write(tmp_path, MANIFEST)
    plans = resolve(load_manifest(path))
    lines: list[str] = []
    serial = build_repository(plans, tmp_path / "serial")
    parallel = build_in_processes(plans, tmp_path / "parallel", 2, lines.append)
    assert figures(parallel) == figures(serial)
    assert [model.name for model in parallel.built] == ["torchscript", "onnx", "openvino", "lenet"]
    errors = [(failure.name, type(failure.error)) for failure in parallel.failed]
    assert errors == [("lost", WeightsError), ("fails", NetworkError)]
    assert [str(failure.error) for failure in parallel.failed] == [str(failure.error) for failure in serial.failed]
    assert content(tmp_path / "parallel") == content(tmp_path / "serial")
    assert lock.problems(tmp_path / "parallel") == []
    assert {"onnx: verifying", "lenet: publishing"} <= set(lines)


@pytest.mark.parametrize("format_name", ["torchscript", "onnx", "openvino"])
def test_export_holds_nothing_of_its_process_or_folder(format_name: str, tmp_path: Path) -> None:
    """Equal networks are equal files: wherever the user's code lies, and whatever was exported before."""
    digests = []
    for name in ("first", "second"):
        entry = "network: ending.py:with_a_head, weights: included, preprocess: {channels: 3, resize: 40, crop: 32}"
        path = write(tmp_path / name, f"models:\n  m: {{{entry}, format: {format_name}}}\n")
        outcome = build_repository(resolve(load_manifest(path)), tmp_path / name / "repository")
        assert not outcome.failed
        artifact = tmp_path / name / "repository" / f"m_{format_name}" / "1"
        digests.append({file: digest for file, digest in hashing.digests(artifact).items() if file != "config.pbtxt"})
    assert digests[0] == digests[1]


def test_process_that_dies_is_one_clear_failure(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "models:\n"
        "  killed: {network: ending.py:killed, weights: included, preprocess: {channels: 3, resize: 40, crop: 32}}\n"
        "  lenet: {weights: random}\n"
        "  leaves: {network: ending.py:leaving, weights: included, preprocess: {channels: 3, resize: 40, crop: 32}}\n",
    )
    outcome = build_in_processes(resolve(load_manifest(path)), tmp_path / "repository", 2)
    assert [model.name for model in outcome.built] == ["lenet"]
    killed, leaves = outcome.failed
    assert (killed.name, leaves.name) == ("killed", "leaves")
    assert isinstance(killed.error, WorkerError)
    assert "was killed (SIGKILL), as the system does when memory runs out" in str(killed.error)
    assert "ended by itself with status 3" in str(leaves.error)
    assert lock.problems(tmp_path / "repository") == []


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_its_processes_and_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    begun = [tmp_path / f"begun {i}" for i in range(2)]
    entry = "network: ending.py:waiting, weights: included, preprocess: {channels: 3, resize: 40, crop: 32}"
    models = [f"  m{i}: {{{entry}, arguments: {{begun: '{file}'}}}}\n" for i, file in enumerate(begun)]
    write(tmp_path, "models:\n" + "".join(models))
    command = [sys.executable, "-m", "builder", "--jobs", "2"]
    with started(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: process.poll() is not None or all(file.exists() and file.read_text() for file in begun), 120)
        # As a terminal does it for Ctrl-C: to the whole group.
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        _, messages = process.communicate(timeout=60)
    assert process.returncode in (130, 128 + signal.SIGTERM)
    assert "Traceback" not in messages
    assert not any(alive(int(file.read_text())) for file in begun)
    assert not list((tmp_path / "model_repository").iterdir())
    assert [path.name for path in staging.staging_root(tmp_path / "model_repository").iterdir()] == ["lock"]


def test_command_line(tmp_path: Path) -> None:
    write(tmp_path, MANIFEST)
    command = [sys.executable, "-m", "builder", "--json", "lenet", "lost", "-j", "2"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
    assert finished.returncode == WeightsError.exit_code, finished.stderr
    answer = json.loads(finished.stdout)
    assert [model["name"] for model in answer["built"]] == ["lenet"]
    assert [model["exit_code"] for model in answer["failed"]] == [WeightsError.exit_code]
    refused = subprocess.run(
        [*command[:-1], "0"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240
    )
    assert refused.returncode == 2
