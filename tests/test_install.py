"""`make install`: .venv is renewed when what it is made from differs, and shared where that is asked for."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# In the place of Python: `-m venv` makes an environment whose own python notes what pip is asked for.
PYTHON = """#!/bin/sh
case "$1 $2" in
"-m venv")
    mkdir -p .venv/bin .venv/lib/python3.11
    printf '#!/bin/sh\\n[ "$1" = -c ] && echo 3.11 || echo "$@" >>asked\\n' >.venv/bin/python
    chmod +x .venv/bin/python
    printf '#!%s\\n' "$PWD/.venv/bin/python" >.venv/bin/tool
    echo package >.venv/lib/python3.11/package ;;
*) echo 3.11 ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy(tmp_path / "checkout")


def copy(folder: Path) -> Path:
    (folder / ".ci").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt", ".ci/environment"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "python").write_text(PYTHON)
    (folder / "python").chmod(0o755)
    return folder


def planned(checkout: Path) -> str:
    """The name that `make install` would make an environment for; empty if there it is."""
    command = ["make", "--no-print-directory", "-n", "install"]
    finished = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=60, env=environment())
    assert finished.returncode == 0, finished.stderr
    return next((line.split()[-1] for line in finished.stdout.splitlines() if "environment" in line), "")


def environment(**changes: str) -> dict[str, str]:
    """Of a shell, and not of a `make` that these tests may run in."""
    own = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "BUILD_REPO_VENV")}
    return own | changes


def install(checkout: Path, name: str, **changes: str) -> list[str]:
    """What pip was asked for, a line a call."""
    command = [".ci/environment", "./python", name]
    subprocess.run(command, cwd=checkout, check=True, timeout=60, env=environment(**changes))
    return (checkout / "asked").read_text().splitlines()


def test_contents_decide_and_not_times(checkout: Path) -> None:
    name = planned(checkout)
    assert name.startswith("installed-3.1")
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / name).touch()
    os.utime(checkout / ".venv" / name, (0, 0))
    assert planned(checkout) == ""
    (checkout / "constraints.txt").write_text("other==1\n")
    os.utime(checkout / "constraints.txt", (0, 0))
    assert planned(checkout) not in ("", name)


def test_an_install_that_fails_is_none(checkout: Path) -> None:
    install(checkout, "installed-3.11-one")
    (checkout / ".venv/bin/python").write_text('#!/bin/sh\n[ "$1" = -c ] && echo 3.11\n')
    with pytest.raises(subprocess.CalledProcessError):
        install(checkout, "installed-3.11-two")
    assert not list((checkout / ".venv").glob("installed*"))


def test_checkouts_share_what_is_the_same(checkout: Path, tmp_path: Path) -> None:
    kept = {"BUILD_REPO_VENV": str(tmp_path / "kept")}
    (first,) = install(checkout, "installed-3.11-one", **kept)
    assert first.endswith("--editable .[dev]")
    second = copy(tmp_path / "second")
    (only,) = install(second, "installed-3.11-one", **kept)
    assert only.endswith("--no-deps --editable .")
    assert (second / ".venv/bin/tool").read_text() == f"#!{second}/.venv/bin/python\n"
    assert (checkout / ".venv/bin/tool").read_text() == f"#!{checkout}/.venv/bin/python\n"
    package = ".venv/lib/python3.11/package"
    assert (second / package).stat().st_ino == (checkout / package).stat().st_ino
    assert [path.name for path in (second / ".venv").glob("installed*")] == ["installed-3.11-one"]
    assert install(second, "installed-3.11-other", **kept)[1].endswith("--editable .[dev]")
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"installed-3.11-one", "installed-3.11-other"}


def test_places_that_scripts_cannot_name_share_nothing(tmp_path: Path) -> None:
    kept = {"BUILD_REPO_VENV": str(tmp_path / "kept")}
    for name in ("a checkout", "another & one"):
        (only,) = install(copy(tmp_path / name), "installed-3.11-one", **kept)
        assert only.endswith("--editable .[dev]")
    assert not (tmp_path / "kept").exists()
