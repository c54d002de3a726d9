"""What a server is given of a repository: all of one moment, for as long as it serves."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import resource
import shutil
import threading
from pathlib import Path

import pytest
from rebuilding import NOBODY, folder_for_all
from tools import missing

from builder.launchers import snapshot
from builder.launchers.snapshot import COPIED_BYTES, Changing, Snapshot

LARGE = bytes(range(256)) * (COPIED_BYTES // 256 + 1)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "a repository"
    (folder / "m" / "1").mkdir(parents=True)
    (folder / "m" / "2").mkdir()  # of an ensemble, which needs no file in it
    (folder / "m" / "config.pbtxt").write_text('name: "m"')
    (folder / "m" / "1" / "model.onnx").write_bytes(LARGE)
    (folder / "lock.json").write_text("{}")
    return folder


def test_it_outlives_the_repository(repository: Path, tmp_path: Path) -> None:
    taken = Snapshot(repository, tmp_path / "taken")
    shutil.rmtree(repository)
    assert (taken.folder / "m" / "config.pbtxt").read_text() == 'name: "m"'
    assert (taken.folder / "m" / "1" / "model.onnx").read_bytes() == LARGE
    assert (taken.folder / "m" / "2").is_dir()
    assert (taken.folder / "lock.json").exists()
    taken.close()
    assert not (taken.folder / "m" / "1" / "model.onnx").exists()


def test_another_process_reads_it(repository: Path, tmp_path: Path) -> None:
    """The server is one."""
    taken = Snapshot(repository, tmp_path / "taken")
    shutil.rmtree(repository)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply_async(Path.read_bytes, (taken.folder / "m" / "1" / "model.onnx",)).get(60) == LARGE
    taken.close()


def publish(repository: str, rounds: int) -> None:
    """As builds do: files come and go by renames, in an order in which each config names what is there."""
    folder = Path(repository) / "m"
    for version in range(2, rounds + 2):
        staged = Path(repository).parent / "staged"
        staged.mkdir()
        (staged / "labels.txt").write_text(str(version))
        staged.rename(folder / str(version))
        new = Path(repository).parent / "config"
        new.write_text(str(version))
        new.rename(folder / "config.pbtxt")
        shutil.rmtree(folder / str(version - 1))


def test_all_of_it_is_of_one_moment(tmp_path: Path) -> None:
    """Beside a publisher that never rests: the config names a version that is there, with its labels."""
    repository = tmp_path / "r"
    (repository / "m" / "1").mkdir(parents=True)
    (repository / "m" / "1" / "labels.txt").write_text("1")
    (repository / "m" / "config.pbtxt").write_text("1")
    publisher = multiprocessing.get_context("spawn").Process(target=publish, args=(str(repository), 2000))
    publisher.start()
    seen = set()
    number = 0
    while publisher.is_alive() or not number:
        number += 1
        taken = Snapshot(repository, tmp_path / f"taken-{number}")
        version = (taken.folder / "m" / "config.pbtxt").read_text()
        assert (taken.folder / "m" / version / "labels.txt").read_text() == version
        seen.add(version)
        taken.close()
        shutil.rmtree(taken.folder)
    publisher.join(60)
    assert publisher.exitcode == 0
    assert len(seen) > 2


def test_what_never_rests_is_refused(repository: Path, tmp_path: Path) -> None:
    for number in range(500):  # so that a look takes its time
        (repository / f"{number}").touch()
    ended = threading.Event()

    def change() -> None:
        for moment in itertools.count():
            if ended.is_set():
                return
            os.utime(repository / "lock.json", ns=(0, moment))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        with pytest.raises(Changing, match="a repository changed all the time"):
            Snapshot(repository, tmp_path / "taken", patience=0.3)
    finally:
        ended.set()
        thread.join(60)
    assert not (tmp_path / "taken").exists()
    assert open_files(repository) == []


def open_files(folder: Path) -> list[str]:
    links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]  # noqa: PTH115
    return [link for link in links if link.startswith(str(folder))]


def test_circles_and_what_is_no_file_are_left_out(repository: Path, tmp_path: Path) -> None:
    (repository / "m" / "round").symlink_to(repository)
    (repository / "m" / "self").symlink_to("self")
    os.mkfifo(repository / "m" / "fifo")
    (repository / "m" / "__pycache__").mkdir()
    (repository / "m" / "linked").symlink_to("config.pbtxt")
    taken = Snapshot(repository, tmp_path / "taken")
    assert {path.name for path in (taken.folder / "m").iterdir()} >= {"1", "2", "config.pbtxt", "linked"}
    assert not {"self", "fifo", "__pycache__"} & {path.name for path in (taken.folder / "m").iterdir()}
    taken.close()


def test_models_may_share_a_folder_by_links(repository: Path, tmp_path: Path) -> None:
    """As in a store of artifacts that several models' versions lead to."""
    for name in ("a", "b"):
        (repository / name).mkdir()
        (repository / name / "1").symlink_to(repository / "m" / "1")
    taken = Snapshot(repository, tmp_path / "taken")
    for name in ("a", "b", "m"):
        assert (taken.folder / name / "1" / "model.onnx").read_bytes() == LARGE
    taken.close()
    taken.close()  # whoever else stops the server does so, too
    assert open_files(repository) == []


def test_a_folder_that_cannot_be_read_is_told() -> None:
    if os.geteuid():
        missing("a process of another user needs root")
    with folder_for_all() as base, multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        (base / "r" / "m").mkdir(parents=True)
        (base / "r" / "m").chmod(0o700)
        (base / "own").mkdir()
        (base / "own").chmod(0o777)
        told = pool.apply_async(as_nobody, (base / "r", base / "own" / "taken")).get(120)
        assert told == f"[Errno 13] Permission denied: '{base / 'r' / 'm'}'"
        assert list((base / "own").iterdir()) == []


def as_nobody(repository: Path, folder: Path) -> str:
    """Why another user cannot take it."""
    os.setuid(NOBODY)
    try:
        Snapshot(repository, folder).close()
    except OSError as error:
        return str(error)
    return ""


def test_more_files_than_a_process_may_open_are_told(repository: Path, tmp_path: Path) -> None:
    for number in range(snapshot.SPARE_FILES):
        (repository / "m" / f"{number}").mkdir(exist_ok=True)
        (repository / "m" / f"{number}" / "model.onnx").write_bytes(LARGE)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        assert pool.apply_async(limited, (repository, tmp_path / "more", 300, 4096)).get(120) == ""
        told = pool.apply_async(limited, (repository, tmp_path / "taken", 300, 300)).get(120)
    assert "open files, and this process may have 300; raise ulimit -Hn" in told
    assert not (tmp_path / "taken").exists()


def limited(repository: Path, folder: Path, soft: int, hard: int) -> str:
    """Why a process with such limits of open files cannot take it."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        Snapshot(repository, folder).close()
    except OSError as error:
        return str(error)
    return ""
