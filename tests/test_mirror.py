"""A server's snapshot follows the repository: whole, checked, and without what the server still has."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import shutil
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path

import pytest
from published import publish_model
from waiting import until

from builder.launchers.mirror import Mirror
from builder.launchers.snapshot import COPIED_BYTES, FAR, Snapshot
from builder.repository import lock

LARGE = bytes(range(256)) * (COPIED_BYTES // 256 + 1)


class Following:
    """A mirror that looks often, and what it says."""

    def __init__(self, repository: Path, folder: Path, **options: object) -> None:
        self.repository, self.said = repository, queue.Queue[str]()
        self.loaded: Mapping[str, Set[str]] | None = {}
        self.taken = Snapshot(repository, folder / "models")
        self.mirror = Mirror(self.taken, self._loaded, self.said.put, interval=0.01, **options)  # type: ignore[arg-type]

    def _loaded(self) -> Mapping[str, Set[str]]:
        if self.loaded is None:
            raise OSError("it is busy")
        return self.loaded

    @property
    def models(self) -> Path:
        return self.taken.folder

    def has(self, name: str) -> bool:
        return (self.models / name).exists()

    def end(self) -> None:
        self.mirror.leave()
        self.taken.close()


@pytest.fixture
def following(tmp_path: Path) -> Iterator[Callable[..., Following]]:
    began: list[Following] = []

    def begin(**options: object) -> Following:
        (tmp_path / "runtime").mkdir()
        began.append(Following(tmp_path / "r", tmp_path / "runtime", **options))
        return began[-1]

    yield begin
    for one in began:
        one.end()
    assert open_files(tmp_path) == []


def open_files(folder: Path) -> list[str]:
    links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]  # noqa: PTH115
    return [link for link in links if link.startswith(str(folder))]


def network_of(repository: Path, model: str) -> str:
    (name,) = {path.name for path in repository.glob(f"{model}_*")}
    return name


def same(one: Path, other: Path) -> bool:
    return one.exists() and one.read_bytes() == other.read_bytes()


def test_what_is_published_comes_whole(following: Callable[..., Following], tmp_path: Path) -> None:
    publish_model(tmp_path / "r", "m")
    prepared: list[set[str]] = []
    mirror = following(prepare=lambda new, _: prepared.append({path.name for path in new.iterdir()}))
    network = network_of(tmp_path / "r", "m")
    publish_model(tmp_path / "r", "m", files={"model.bin": LARGE})
    publish_model(tmp_path / "r", "another")
    for name in (f"{network}/2/model.bin", "m/config.pbtxt", f"{network}/config.pbtxt", "another/config.pbtxt"):
        until(lambda name=name: same(mirror.models / name, tmp_path / "r" / name))  # type: ignore[misc]
    assert (mirror.models / network / "2" / "model.bin").is_symlink()
    assert mirror.has(f"{network}/1")
    assert {name for names in prepared for name in names} >= {"m", network, "another"}
    assert mirror.said.empty()
    until(lambda: [path.name for path in mirror.models.parent.iterdir()] == ["models"])


def test_no_model_ever_looks_newer_to_the_server(following: Callable[..., Following], tmp_path: Path) -> None:
    publish_model(tmp_path / "r", "m")
    mirror = following()
    publish_model(tmp_path / "r", "m")
    publish_model(tmp_path / "r", "another")
    until(lambda: mirror.has("m/2") and mirror.has("another"))
    until(lambda: same(mirror.models / "m" / "config.pbtxt", tmp_path / "r" / "m" / "config.pbtxt"))
    until(lambda: {path.stat().st_mtime for path in mirror.models.iterdir() if path.is_dir()} == {FAR})


def test_what_is_gone_stays_until_the_server_has_let_go_of_it(
    following: Callable[..., Following], tmp_path: Path
) -> None:
    network = publish_model(tmp_path / "r", "m", files={"model.bin": LARGE}).network
    publish_model(tmp_path / "r", "m", files={"model.bin": LARGE[::-1]})
    publish_model(tmp_path / "r", "gone", files={"model.bin": LARGE})
    mirror = following()
    mirror.loaded = {network: {"1", "2"}, "gone": {"1"}}
    shutil.rmtree(tmp_path / "r" / network / "1")
    shutil.rmtree(tmp_path / "r" / "gone")
    publish_model(tmp_path / "r", "m", files={"model.bin": LARGE})
    until(lambda: mirror.has(f"{network}/3"))
    assert (mirror.models / network / "1" / "model.bin").read_bytes() == LARGE
    mirror.loaded = None  # nobody can say
    publish_model(tmp_path / "r", "later")
    until(lambda: mirror.has("later"))
    assert mirror.has(f"{network}/1")
    mirror.loaded = {network: {"2"}}
    until(lambda: not mirror.has(f"{network}/1") and not mirror.has("gone"))
    assert mirror.has(f"{network}/2/model.bin")
    until(lambda: not [name for name in open_files(tmp_path) if f"{network}/1" in name or "gone/" in name])


@pytest.mark.parametrize("checks", [True, False])
def test_what_is_not_as_it_was_recorded_does_not_come(
    checks: bool, following: Callable[..., Following], tmp_path: Path
) -> None:
    """It is told once, and comes when it is right."""
    repository = tmp_path / "r"
    network = publish_model(repository, "m", files={"model.bin": LARGE}).network
    mirror = following(checks=checks)
    staged = tmp_path / "staged"
    shutil.copytree(repository, staged)
    publish_model(staged, "m", files={"model.bin": LARGE[::-1]})
    (staged / network / "2" / "model.bin").write_bytes(LARGE)
    publish_model(staged, "fine")
    shutil.copytree(staged, repository, dirs_exist_ok=True)
    until(lambda: mirror.has("fine") and mirror.has("m/2"))
    if not checks:
        until(lambda: mirror.has(f"{network}/2"))
        assert mirror.said.empty()
        return
    told = mirror.said.get(timeout=30)
    assert told.startswith(
        f"version 2 of {network} is not what was built, so this server does not get it: {network}/2/model.bin diff"
    )
    assert not mirror.has(f"{network}/2")
    assert not same(mirror.models / network / "config.pbtxt", repository / network / "config.pbtxt")
    (repository / network / "2" / "model.bin").write_bytes(LARGE[::-1])
    until(lambda: same(mirror.models / network / "config.pbtxt", repository / network / "config.pbtxt"))
    assert same(mirror.models / network / "2" / "model.bin", repository / network / "2" / "model.bin")
    assert mirror.said.empty()


def damage(file: Path) -> bytes:
    """As another file of its name, so that nobody has it open; what it was."""
    before = file.read_bytes()
    file.unlink()
    file.write_bytes(before[:-1] + b"?")
    return before


def test_an_old_version_that_is_damaged_keeps_no_new_one_away(
    following: Callable[..., Following], tmp_path: Path
) -> None:
    """The server goes on with it as it was, and gets it when it is mended."""
    repository = tmp_path / "r"
    network = publish_model(repository, "m", files={"model.bin": LARGE}).network
    publish_model(repository, "m", files={"model.bin": LARGE[::-1]})
    mirror = following()
    old = repository / network / "1" / "model.bin"
    before = damage(old)
    publish_model(repository, "m", files={"model.bin": LARGE * 2})
    assert f"version 1 of {network} is not what was built" in mirror.said.get(timeout=30)
    until(lambda: same(mirror.models / network / "config.pbtxt", repository / network / "config.pbtxt"))
    assert mirror.has(f"{network}/3/model.bin")
    held = mirror.models / network / "1" / "model.bin"
    assert held.read_bytes() == before
    old.write_bytes(before)
    until(lambda: held.samefile(old))
    assert same(held, old)
    assert mirror.said.empty()


def test_of_a_new_model_a_damaged_version_is_left_out(following: Callable[..., Following], tmp_path: Path) -> None:
    """And all of the model, where what is damaged is what its config serves."""
    repository, staged = tmp_path / "r", tmp_path / "staged"
    publish_model(repository, "m")
    mirror = following()
    shutil.copytree(repository, staged)
    damaged: dict[Path, bytes] = {}
    for name, number in (("old", "1"), ("now", "2")):
        for content in (LARGE, LARGE[::-1]):
            publish_model(staged, name, files={"model.bin": content}, alone=True)
        damaged[repository / name / number / "model.bin"] = damage(staged / name / number / "model.bin")
    shutil.copytree(staged, repository, dirs_exist_ok=True)
    said = sorted(mirror.said.get(timeout=30).partition(" is not")[0] for _ in damaged)
    assert said == ["version 1 of old", "version 2 of now"]
    until(lambda: mirror.has("old/2/model.bin"))
    assert not mirror.has("old/1")
    assert not mirror.has("now")
    for file, content in damaged.items():
        file.write_bytes(content)
    until(lambda: mirror.has("old/1/model.bin") and mirror.has("now/2/model.bin"))
    assert mirror.said.empty()


def test_a_version_with_a_file_missing_does_not_come(following: Callable[..., Following], tmp_path: Path) -> None:
    repository = tmp_path / "r"
    publish_model(repository, "m")
    mirror = following()
    publish_model(tmp_path / "other", "new", files={"model.bin": b"1"})
    network = network_of(tmp_path / "other", "new")
    (tmp_path / "other" / network / "1" / "model.bin").unlink()
    recorded = lock.read(repository) | lock.read(tmp_path / "other")
    (repository / lock.FILENAME).write_text(lock.to_text(recorded))
    shutil.copytree(tmp_path / "other" / network, repository / network)
    assert f"{network}/1/model.bin is missing" in mirror.said.get(timeout=30)
    assert not mirror.has(network)


def test_what_was_there_before_anything_was_recorded_comes(following: Callable[..., Following], tmp_path: Path) -> None:
    """As do other people's models, and files in the root."""
    repository = tmp_path / "r"
    publish_model(repository, "m")
    mirror = following()
    (repository / "theirs" / "1").mkdir(parents=True)
    (repository / "theirs" / "1" / "model.onnx").write_bytes(LARGE)
    (repository / "theirs" / "config.pbtxt").write_text('name: "theirs"')
    until(lambda: mirror.has("theirs/1/model.onnx"))
    (repository / "theirs" / "2").mkdir()
    (repository / "theirs" / "2" / "model.onnx").write_bytes(LARGE)
    (repository / "build-repo.lock.json").unlink()
    until(lambda: mirror.has("theirs/2/model.onnx"))
    assert mirror.said.empty()


def test_a_lock_that_cannot_be_read_is_told_and_tried_again(
    following: Callable[..., Following], tmp_path: Path
) -> None:
    repository = tmp_path / "r"
    publish_model(repository, "m")
    mirror = following()
    before = (repository / lock.FILENAME).read_text()
    (repository / lock.FILENAME).write_text("{")
    (repository / "theirs").mkdir()
    assert "what is published does not get to this server: " in mirror.said.get(timeout=30)
    (repository / lock.FILENAME).write_text(before)
    until(lambda: mirror.has("theirs"))


def test_it_and_the_builder_read_one_lock(tmp_path: Path) -> None:
    """What the mirror reads by the standard library alone is what the lock writes."""
    publish_model(tmp_path / "r", "m")
    document = json.loads((tmp_path / "r" / lock.FILENAME).read_text())
    files = document["models"]["m"]["versions"]["1"]["files"]
    digest = hashlib.sha256((tmp_path / "r" / "m" / "1" / "config.pbtxt").read_bytes()).hexdigest()
    assert files["1/config.pbtxt"] == digest
