"""Wherever a disk is full, it is told so, with one exit code, and what was served is served."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rebuilding
from conftest import write_manifest
from published import publish_model
from test_publish import ONNX
from test_stores import of, tmp_path, to
from wholeness import answers

from builder.build.entry import resolve
from builder.build.run import build_repository
from builder.errors import ExportError, NoSpace, full_or
from builder.manifest.models import load_manifest
from builder.repository.prune import Wish, prune
from builder.repository.rollback import roll_back
from builder.repository.staging import staging

__all__ = ["tmp_path"]  # a fixture


def pull(repository: Path) -> Any:
    far = f"file://{repository.parent}/far"
    publish_model(repository.parent / "from", "other", **ONNX)
    to(far, repository.parent / "from")
    return lambda: of(far, repository)


def push(repository: Path) -> Any:
    return lambda: to(f"file://{repository.parent}/far", repository)


def build(repository: Path) -> Any:
    entries = resolve(load_manifest(write_manifest(repository.parent, "models:\n" + rebuilding.entry("built"))))

    def act() -> None:
        (failure,) = build_repository(entries, repository).failed
        raise failure.error

    return act


COMMANDS: dict[str, Callable[[Path], Any]] = {
    "publish": lambda repository: lambda: publish_model(repository, **ONNX),
    "roll back": lambda repository: lambda: roll_back(repository, "m"),
    "prune": lambda repository: lambda: prune(repository, Wish((), 1, None, (), False, {}, True), 2e9),
    "pull": pull,
    "push": push,
    "build": build,
}


CASES = [*((name, errno.ENOSPC) for name in COMMANDS), ("publish", errno.EDQUOT)]


@pytest.mark.parametrize(("name", "number"), CASES)
def test_a_full_disk(name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "r"
    for _ in range(3):
        publish_model(repository, **ONNX)
    before, act = answers(repository), COMMANDS[name](repository)

    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as changed:
        changed.setattr(os, "fsync", full)
        with pytest.raises(NoSpace, match=os.strerror(number)):
            act()
    assert answers(repository) == before


def test_what_writes_without_a_word_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(NoSpace, match=r"no room left for .*serves what it served before"), staging(tmp_path / "r"):
        raise OSError(errno.ENOSPC, "No space left on device", "labels.txt")
    assert list((tmp_path / ".r.staging").iterdir()) == [tmp_path / ".r.staging" / "lock"]


def test_the_number_may_be_lost_on_the_way() -> None:
    assert full_or(ExportError, OSError("OpenVINO: No space left on device")) is NoSpace
    assert full_or(ExportError, PermissionError(errno.EACCES, "Permission denied")) is ExportError


def test_the_command(tmp_path: Path) -> None:
    """Whose own output finds no room here."""
    publish_model(tmp_path / "r", **ONNX)
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "builder", "history", "m", "-r", tmp_path / "r"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, "no room left on the disk" in done.stderr) == (NoSpace.exit_code, True), done.stderr
    assert "Traceback" not in done.stderr
