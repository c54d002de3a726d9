"""Digests of files that are remembered: never those of a file that may have changed since."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from waiting import until

from builder.util import hashing
from builder.util.remembered import Digests
from builder.util.usercode.opened import watched

LATER = 60_000_000_000


def later() -> int:
    """As if the files had been there for a minute."""
    return time.time_ns() + LATER


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("first")
    return path


@pytest.fixture
def memory(file: Path) -> Path:
    """In which the file is remembered."""
    digests = Digests(file.with_name("memory.json"), later)
    assert digests.of(file) == hashing.sha256(file)
    digests.save()
    return file.with_name("memory.json")


def test_a_file_that_is_as_it_was_is_not_read_again(file: Path, memory: Path) -> None:
    document = json.loads(memory.read_text())
    document["files"][str(file)][0] = "remembered"
    memory.write_text(json.dumps(document))
    assert Digests(memory).of(file) == "remembered"


def in_place(path: Path) -> None:
    """As many bytes, and the time of before."""
    before = path.stat()

    def is_later() -> bool:
        path.write_text("other")
        return path.stat().st_ctime_ns != before.st_ctime_ns

    until(is_later)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def by_another(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("other")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [in_place, by_another])
def test_another_of_the_same_size_and_time_is_read(change: object, file: Path, memory: Path) -> None:
    assert callable(change)
    change(file)
    assert Digests(memory).of(file) == hashing.sha256(file)


@pytest.mark.parametrize("now", [time.time_ns, lambda: time.time_ns() - LATER], ids=["at once", "clock set back"])
def test_what_has_just_changed_is_not_remembered(now: object, file: Path, tmp_path: Path) -> None:
    """A second change in the same tick would leave size and times as they were."""
    digests = Digests(tmp_path / "memory.json", now)  # type: ignore[arg-type]
    assert digests.of(file) == hashing.sha256(file)
    digests.save()
    assert not (tmp_path / "memory.json").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"form": 2, "files": {}}', '{"form": 1, "files": {"a": 1}}'])
def test_a_damaged_memory_is_none(text: str, file: Path, memory: Path) -> None:
    memory.write_text(text)
    digests = Digests(memory, later)
    assert digests.of(file) == hashing.sha256(file)
    digests.save()
    assert json.loads(memory.read_text())["files"].keys() == {str(file)}


def test_what_is_no_file_has_no_digest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert [Digests().of(tmp_path / name) for name in ("pipe", "lost", ".")] == ["", "", ""]


def test_files_that_are_opened_are_seen(tmp_path: Path) -> None:
    for name in ("read", "written", "both", "before", "changed"):
        (tmp_path / name).write_text(name)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "read").write_text("not looked at")
    with watched(tmp_path, [tmp_path / "other"], [tmp_path / "before"]) as opened:
        (tmp_path / "before").read_text()
        (tmp_path / "read").read_text()
        os.close(os.open(tmp_path / "both", os.O_RDONLY))
        (tmp_path / "changed").read_bytes()
        (tmp_path / "other" / "read").read_text()
    (tmp_path / "changed").write_text("changed meanwhile")
    with watched(tmp_path) as later_on:
        (tmp_path / "both").read_text()
        (tmp_path / "both").write_text("and written")
    assert opened.files() == {tmp_path / "both": False, tmp_path / "changed": False, tmp_path / "read": True}
    assert later_on.files() == {}
