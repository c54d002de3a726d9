"""Of the tests themselves: a hang costs one test, nothing is left behind, and what a machine lacks is told."""

from __future__ import annotations

import ast
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
    given = os.environ | {"PYTHONPATH": str(TESTS), "COLUMNS": "200"} | environment
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
from pathlib import Path

SLEEP = [sys.executable, "-c", "import time; time.sleep(1000)"]

def test_processes():
    one = subprocess.Popen(SLEEP, start_new_session=True)
    Path(os.environ["TOLD"]).write_text(str(one.pid))

def test_folder():
    tempfile.mkdtemp(prefix="something-")
"""


@pytest.mark.parametrize("workers", ["-n0", "-n1"])
def test_what_is_left_behind_is_told_and_taken_away(workers: str, tmp_path: Path) -> None:
    (tmp_path / "told").touch()
    done = run(
        tmp_path, LEAVES, workers, "-o", "leftovers_grace=1", "-o", "filterwarnings=", TOLD=str(tmp_path / "told")
    )
    assert "2 passed" in done.stdout, done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    _, _, left = done.stdout.partition("left behind by this run")
    (process,) = re.findall(r"process (\d+): .*time\.sleep\(1000\)", left)
    (folder,) = re.findall(r"temporary: (\S+/something-\w+)", left)
    assert process == (tmp_path / "told").read_text()
    assert not is_alive(int(process))
    assert not Path(folder).exists()


def test_a_tidy_run_leaves_its_status_alone(tmp_path: Path) -> None:
    text = "import subprocess, sys\ndef test_one(tmp_path):\n    subprocess.run([sys.executable, '-c', ''])\n"
    kept = {path.name for path in tmp_path.iterdir()}
    done = run(tmp_path, text, "-n0", PYTEST_DEBUG_TEMPROOT=str(tmp_path))
    assert done.returncode == 0, done.stdout
    assert "left behind" not in done.stdout
    assert not list(tmp_path.glob("pytest-of-*/pytest-0"))
    assert kept == set()


# What a machine lacks

ALLOWED = {"there is a GPU", "there is no GPU", "there is one file system here", "has a GPU"}
"""Reasons to skip that are not for want of a tool: the test is of another kind of machine."""
NO_TOOL = re.compile("is for machines without a GPU$")
# Models of repositories are what is checked; some are no Python on purpose.
FILES = [f for f in sorted(TESTS.rglob("*.py")) if f.name != "tools.py" and "repositories" not in f.parts]


def skips(text: str) -> list[str]:
    """Where a file skips, or looks for a program, by itself."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name, words = node.func.attr, [*node.args, *(word.value for word in node.keywords)]
            reasons = {word.value for word in words if isinstance(word, ast.Constant)}
            excused = reasons & ALLOWED or any(NO_TOOL.search(str(reason)) for reason in reasons)
            if name in ("which", "importorskip") or (name in ("skip", "skipif") and not excused):
                found.append(f"{node.lineno}: {name}; use tools.program or tools.missing")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_only_one_place_skips_for_want_of_something(file: Path) -> None:
    assert not skips(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "text", ["pytest.skip('no nginx')", "shutil.which('nginx')", "pytest.mark.skipif(not nginx, reason='no nginx')"]
)
def test_the_rule_sees_a_skip_of_ones_own(text: str) -> None:
    assert skips(text)


NEEDS = """
import pytest
from tools import program

@pytest.mark.nginx
def test_lacks():
    program("no-such-program", "apt-get install it", "nginx")

@pytest.fixture(scope="module")
def shell():
    return program("sh", "apt-get install dash", "nginx")

def test_has_and_does_not_say_so(shell):
    pass
"""


@pytest.mark.parametrize("in_ci", [True, False])
def test_what_is_lacking_skips_and_fails_in_ci_and_needs_its_marker(in_ci: bool, tmp_path: Path) -> None:
    done = run(tmp_path, NEEDS, "-n0", "-rA", CI="true" if in_ci else "")
    lacks = r"FAILED \S+test_lacks - Failed: " if in_ci else r"SKIPPED \[1\] \S+ "
    assert re.search(lacks + "no no-such-program to test with: apt-get install it", done.stdout), done.stdout
    assert re.search(
        r"ERROR \S+test_has_and_does_not_say_so - AssertionError: .* must bear @pytest.mark.nginx", done.stdout
    )
