"""Of the tests themselves: a hang costs one test, nothing is left behind, and what a machine lacks is told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from processes import is_alive

TESTS = Path(__file__).parent
ROOT = TESTS.parent


def run(folder: Path, text: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A run of other tests than these, by this project's settings."""
    (folder / "test_inner.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), f"--rootdir={folder}"]
    command += ["-p", "leftovers", "-p", "limits", "-p", "tools", "-p", "no:cacheprovider", *options]
    given = os.environ | {"PYTHONPATH": str(TESTS)} | environment
    return subprocess.run(
        [*command, str(folder / "test_inner.py")], cwd=folder, env=given, capture_output=True, text=True, timeout=240
    )


HANGS = """
import ctypes, subprocess, sys, time
import pytest
from processes import started

def test_child():
    with started([sys.executable, "-c", "import time; time.sleep(1000)"], stdout=subprocess.PIPE) as child:
        child.stdout.read()

@pytest.fixture
def hanging():
    yield
    time.sleep(1000)

def test_fixture(hanging):
    pass

def test_fixture_of_a_test_that_failed(hanging):
    assert False

def test_beyond_python():
    ctypes.PyDLL(None).sleep(1000)

@pytest.fixture
def hanging_beyond_python():
    yield
    ctypes.PyDLL(None).sleep(1000)

def test_fixture_beyond_python(hanging_beyond_python):
    assert False

def test_of_none():
    pass
"""


def test_a_hang_costs_one_test(tmp_path: Path) -> None:
    limits = ["--timeout=2", "-o", "tidying_timeout=2", "-o", "faulthandler_timeout=8"]
    done = run(tmp_path, HANGS, "-n1", "-v", *limits)
    failed = set(re.findall(r"^(?:FAILED|ERROR) \S+::(\w+)", done.stdout, re.MULTILINE))
    assert failed == set(re.findall(r"def (test_\w+)", HANGS)) - {"test_of_none"}, done.stdout
    assert "test_of_none" in "".join(re.findall(r"PASSED.*", done.stdout))


LEAVES = """
import os, subprocess, sys, tempfile
from multiprocessing import shared_memory, resource_tracker
from pathlib import Path

SLEEP = [sys.executable, "-c", "import time; time.sleep(1000)"]

def test_processes():
    one = subprocess.Popen(SLEEP, start_new_session=True)
    Path(os.environ["TOLD"]).write_text(str(one.pid))

def test_folder():
    tempfile.mkdtemp(prefix="something-")

def test_memory():
    memory = shared_memory.SharedMemory(create=True, size=10)
    memory.close()
    resource_tracker.unregister(memory._name, "shared_memory")
"""


@pytest.mark.parametrize("workers", ["-n0", "-n1"])
def test_what_is_left_behind_is_told_and_taken_away(workers: str, tmp_path: Path) -> None:
    (tmp_path / "told").touch()
    done = run(
        tmp_path, LEAVES, workers, "-o", "leftovers_grace=1", "-o", "filterwarnings=", TOLD=str(tmp_path / "told")
    )
    assert "3 passed" in done.stdout, done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    _, _, left = done.stdout.partition("left behind by this run")
    (process,) = re.findall(r"process (\d+): .*time\.sleep\(1000\)", left)
    (folder,) = re.findall(r"temporary: (\S+/something-\w+)", left)
    (memory,) = re.findall(r"shared memory: (/dev/shm/psm_\w+)", left)
    assert process == (tmp_path / "told").read_text()
    assert not is_alive(int(process))
    assert not Path(folder).exists()
    assert not Path(memory).exists()


def test_a_tidy_run_leaves_its_status_alone(tmp_path: Path) -> None:
    text = "import subprocess, sys\ndef test_one(tmp_path):\n    subprocess.run([sys.executable, '-c', ''])\n"
    kept = {path.name for path in tmp_path.iterdir()}
    done = run(tmp_path, text, "-n0", PYTEST_DEBUG_TEMPROOT=str(tmp_path))
    assert done.returncode == 0, done.stdout
    assert "left behind" not in done.stdout
    assert not list(tmp_path.glob("pytest-of-*/pytest-0"))
    assert kept == set()
