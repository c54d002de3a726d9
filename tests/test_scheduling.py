"""How the tests are spread over processes: each run here is pytest's and xdist's own, on small files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import scheduling

# Each test notes the process that it runs in.
CONFTEST = """
import os

import pytest

pytest_plugins = ["scheduling"]

@pytest.fixture(autouse=True)
def _noted(request):
    with open("ran", "a") as file:
        print(request.node.nodeid, os.environ["PYTEST_XDIST_WORKER"], file=file)

@pytest.fixture(scope="session")
def server():
    with open("servers", "a") as file:
        print("started", file=file)
"""
INI = "[pytest]\nmarkers =\n    docker: d\n    slow: s\n"
FREE = "import pytest\n@pytest.mark.parametrize('n', range(6))\ndef test_free(n): pass\n"
HELD = """
import pytest
@pytest.fixture(scope="module")
def made(): open("made", "a").write("made ")
@pytest.mark.parametrize("n", range(6))
def test_held(n, made): pass
def test_free(): pass
"""
DOCKER = "import pytest\n@pytest.mark.docker\n@pytest.mark.parametrize('n', range(3))\ndef test_docker(n): pass\n"
SERVED = "import pytest\n@pytest.mark.parametrize('n', range(3))\ndef test_served(n, server): pass\n"
FAILING = "import pytest\ndef test_failing(): assert False\n@pytest.mark.slow\ndef test_slow(): pass\n"
FILES = {
    "test_docker_1": DOCKER,
    "test_docker_2": DOCKER,
    "test_failing": FAILING,
    "test_free": FREE,
    "test_held": HELD,
    "test_served_1": SERVED,
    "test_served_2": SERVED,
}
LONG = {"test_free.py": {f"test_free[{n}]": 40.0 for n in range(6)}, "test_held.py": {"test_held[1]": 500, "gone": 9}}


def pytest_in(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "no:cacheprovider", "-m", "not slow", *options]
    environment = {"PYTHONPATH": str(Path(__file__).parent), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def write(folder: Path, durations: object) -> None:
    for name, text in FILES.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text(INI)
    (folder / "tests").mkdir()
    (folder / "tests" / "durations.json").write_text(json.dumps(durations))


def ran(folder: Path) -> list[tuple[str, str]]:
    """(node id, worker) in the order in which they ran."""
    return [tuple(line.rsplit(" ", 1)) for line in (folder / "ran").read_text().splitlines()]  # type: ignore[misc]


@pytest.mark.parametrize("durations", [LONG, {}], ids=["recorded", "unknown"])
def test_what_is_shared_stays_together(durations: object, tmp_path: Path) -> None:
    write(tmp_path, durations)
    finished = pytest_in(tmp_path, "-n", "3", "--dist", "loadgroup")
    assert "1 failed, 25 passed" in finished.stdout, finished.stdout
    assert "FAILED test_failing.py::test_failing - " in finished.stdout
    found = ran(tmp_path)
    for name in ("test_docker", "test_held.py::test_held", "test_served"):
        assert len({worker for test, worker in found if name in test}) == 1, (name, found)
    assert (tmp_path / "made").read_text() == "made "
    assert (tmp_path / "servers").read_text() == "started\n"


def order(folder: Path) -> list[str]:
    """Of the files, by one worker alone."""
    assert pytest_in(folder, "-n", "1", "--dist", "loadgroup").returncode == 1
    return list(dict.fromkeys(test.partition("[")[0].removesuffix(".py") for test, _ in ran(folder)))


def test_the_engine_first_then_the_longest(tmp_path: Path) -> None:
    write(tmp_path, LONG)
    tests = order(tmp_path)
    assert tests[:4] == [
        "test_docker_1.py::test_docker",
        "test_docker_2.py::test_docker",
        "test_held.py::test_held",
        "test_free.py::test_free",
    ]


def test_a_long_file_is_cut_and_a_short_one_is_not(tmp_path: Path) -> None:
    write(tmp_path, LONG)
    pytest_in(tmp_path, "-n", "3", "--dist", "loadgroup", "test_free.py", "test_failing.py")
    assert len({worker for test, worker in ran(tmp_path) if "test_free" in test}) > 1


def test_recording_keeps_what_was_not_run_and_forgets_what_is_gone(tmp_path: Path) -> None:
    write(tmp_path, {"test_gone.py": {"test_x": 9.0}, "test_free.py": {"test_free[0]": 40.0}})
    pytest_in(tmp_path, "-n", "1", "--record-durations", "test_failing.py", "--rootdir", str(tmp_path))
    assert scheduling.recorded(tmp_path) == {"test_free.py::test_free[0]": 40.0}
    scheduling.write(tmp_path, {"test_free.py::test_free[0]": 4.04, "test_held.py::test_free": 0.1})
    assert scheduling.recorded(tmp_path) == {"test_free.py::test_free[0]": 4.0}
