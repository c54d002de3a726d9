"""What is pushed elsewhere and pulled from there: whole, only what changed, whatever happens under way."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import stores_killing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published import publish_model
from stores_servers import Watched
from waiting import until
from wholeness import answers

from builder.errors import BuilderError, CredentialsError, NoSpace, PublishError, RepositoryError, StoreError
from builder.repository import layout, lock, switching
from builder.repository.served import read_repository
from builder.stores import places, record, transfers
from builder.stores.bucket import Bucket
from builder.stores.far import Far, Found, Stopped, persistently
from builder.stores.pull import Pulled, PullOptions, pull
from builder.stores.push import Pushed, PushOptions, push
from builder.stores.retained import Retention
from builder.triton import model_config

ONNX: dict[str, Any] = {"backend": "onnxruntime", "filename": "model.onnx", "device": "cpu"}
MEGABYTE = 1_000_000


def publish(repository: Path, content: bytes | str = "weights", name: str = "m", **changes: Any) -> None:
    publish_model(repository, name, **(ONNX | {"files": {"model.onnx": content}} | changes))


def to(uri: str, repository: Path, **options: Any) -> Pushed:
    with places.opened(uri, True) as far:
        return push(repository, far, PushOptions(**options))


def of(uri: str, repository: Path, **options: Any) -> Pulled:
    with places.opened(uri, False) as far:
        return pull(repository, far, PullOptions(**options))


def watched(uri: str, before: Callable[[str], None], act: Callable[[Far], Any]) -> tuple[Any, dict[str, int]]:
    with places.opened(uri, True) as far:
        counting = Watched(far, before)
        return act(counting), counting.sent


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory: thousands of files are written for good in these tests, which disks take minutes for."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    publish(tmp_path / "repository")
    return tmp_path / "repository"


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"file://{tmp_path}/far side"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != lock.FILENAME
    }


def far_folder(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


@pytest.mark.parametrize("kind", ["file", "memory"])
@pytest.mark.parametrize("changes", [{}, {"alone": True}, {"steps": []}], ids=["ensemble", "alone", "no step"])
def test_what_comes_back_is_what_was_pushed(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    publish(tmp_path / "repository", **changes)
    uri = f"file://{tmp_path}/far side" if kind == "file" else f"memory:/{tmp_path}"
    assert to(uri, tmp_path / "repository").models == {"m": 1}
    assert of(uri, tmp_path / "pulled").models == {"m": 1}
    assert contents(tmp_path / "pulled") == contents(tmp_path / "repository")
    assert answers(tmp_path / "pulled") == answers(tmp_path / "repository")
    again, back = to(uri, tmp_path / "repository"), of(uri, tmp_path / "pulled")
    assert (again.files, again.bytes, back.files, back.bytes) == (0, 0, 0, 0)


def test_a_far_side_is_a_repository_that_servers_read(repository: Path, uri: str) -> None:
    publish(repository, "new")
    to(uri, repository)
    (model,) = read_repository(far_folder(uri))
    assert (model.name, model.version) == ("m", 2)
    assert lock.problems(far_folder(uri)) == []


def test_one_changed_model_of_ten_moves_its_own_bytes(tmp_path: Path) -> None:
    repository, uri = tmp_path / "repository", f"file://{tmp_path}/far"
    for number in range(10):
        publish(repository, os.urandom(MEGABYTE), f"m{number}")
    to(uri, repository)
    of(uri, tmp_path / "pulled")
    publish(repository, os.urandom(MEGABYTE), "m3")
    pushed, sent = watched(uri, lambda _: None, lambda far: push(repository, far, PushOptions()))
    assert {key.partition("/")[0] for key in sent} == {"m3", "m3_onnxruntime", lock.FILENAME}
    own = sum(path.stat().st_size for name in ("m3", "m3_onnxruntime") for path in (repository / name / "2").iterdir())
    assert own <= sum(sent.values()) <= 1.02 * own
    assert own <= pushed.bytes <= 1.02 * own
    assert own <= of(uri, tmp_path / "pulled").bytes + 2000 <= 1.02 * own


KILLED = {
    "weights": ({}, {"content": "new"}),
    "all": ({}, {"content": "new", "labels": ["Cat", "Dog"], "max_batch_size": 4, "step": "preprocess_2"}),
    "to alone": ({}, {"content": "new", "alone": True}),
    "from alone": ({"alone": True}, {"content": "new"}),
    "interface": ({}, {"content": "new", "classes": 3, "labels": None}),
}


@pytest.mark.parametrize("kind", ["push", "pull"])
@pytest.mark.parametrize("change", KILLED)
def test_killed_at_every_object_it_is_the_old_or_the_new(kind: str, change: str, tmp_path: Path) -> None:
    """Some ten deaths each, with a run behind each that completes the work."""
    before, after = KILLED[change]
    repository, far = tmp_path / "a" / "repository", tmp_path / "b" / "far"
    publish(repository, **before)
    stores_killing.pushed(repository, far)
    pulled = tmp_path / "c" / "repository"
    stores_killing.pulled(far, pulled)
    publish(repository, **after)
    if kind == "pull":
        stores_killing.pushed(repository, far)
    changing = repository if kind == "push" else pulled
    command = [sys.executable, stores_killing.__file__, kind, str(changing), str(far)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert run.returncode == 0, run.stderr[-3000:]
    old, *states = json.loads(run.stdout.splitlines()[-1])
    new = answers(repository)
    assert old != new
    assert {state for state in states if state.startswith("again")} == {f"again: {new}"}
    deaths = [state for state in states if not state.startswith("again")]
    assert len(deaths) > 3
    assert set(deaths) == {old, new}
    assert deaths == sorted(deaths, key=lambda state: state == new), "it went back and forth"


def test_a_push_that_failed_goes_on_where_it_was(repository: Path, uri: str) -> None:
    first: list[str] = []

    def fail(key: str) -> None:
        first.append(key)
        if len(first) > 4:
            raise StoreError("gone")

    with pytest.raises(StoreError, match="gone"):
        watched(uri, fail, lambda far: push(repository, far, PushOptions()))
    assert not (far_folder(uri) / lock.FILENAME).exists()
    there = set(contents(far_folder(uri)))
    assert there
    _, sent = watched(uri, lambda _: None, lambda far: push(repository, far, PushOptions()))
    assert not there & sent.keys()
    assert contents(far_folder(uri)) == contents(repository)


def test_a_pull_that_failed_goes_on_where_it_was(repository: Path, uri: str, tmp_path: Path) -> None:
    to(uri, repository)
    fetched: list[str] = []

    def fail(key: str) -> None:
        if len(fetched) == 4:
            raise StoreError("gone")
        fetched.append(key)

    with pytest.raises(StoreError, match="gone"):
        watched(uri, fail, lambda far: pull(tmp_path / "pulled", far, PullOptions()))
    assert list((tmp_path / "pulled").iterdir()) == []
    before, again = set(fetched), set[str]()
    watched(uri, again.add, lambda far: pull(tmp_path / "pulled", far, PullOptions()))
    assert before - again, "nothing of what had come was of use"
    assert contents(tmp_path / "pulled") == contents(repository)


def test_when_one_transfer_fails_the_others_end_and_it_is_told_why() -> None:
    both, ended = threading.Barrier(2, timeout=30), []

    def act(number: int, told: Callable[[int], None]) -> None:
        both.wait(30)
        if number == 0:
            raise StoreError("the reason")
        try:
            until(lambda: persistently("s3://b", "cannot be written", partial(told, 1)))
        except Exception as error:
            ended.append(type(error))
            raise

    with pytest.raises(StoreError, match=r"^the reason$"):
        transfers.each([0, 1], act, transfers.Unwatched())
    assert ended == [Stopped]


# --- several that push and build ---


def test_of_two_pushes_at_once_the_later_says_to_run_again(repository: Path, uri: str, tmp_path: Path) -> None:
    publish(tmp_path / "other", "of another", "n")
    others: list[Pushed] = []

    def meanwhile(key: str) -> None:
        if key == lock.FILENAME and not others:
            others.append(to(uri, tmp_path / "other"))

    with pytest.raises(StoreError, match=r"changed by somebody else.*run the same"):
        watched(uri, meanwhile, lambda far: push(repository, far, PushOptions()))
    assert of(uri, tmp_path / "pulled").models == {"n": 1}
    assert to(uri, repository).models == {"m": 1}
    assert of(uri, tmp_path / "pulled").models == {"m": 1, "n": 1}


def test_a_version_is_never_replaced_by_another_of_its_number(repository: Path, uri: str, tmp_path: Path) -> None:
    to(uri, repository)
    publish(tmp_path / "other", "built elsewhere")
    before = contents(tmp_path / "other")
    with pytest.raises(StoreError, match="has a version 1 of m_onnxruntime with other content"):
        to(uri, tmp_path / "other")
    with pytest.raises(RepositoryError, match="m_onnxruntime/1 is another version 1 of m_onnxruntime"):
        of(uri, tmp_path / "other")
    assert contents(tmp_path / "other") == before
    assert answers(tmp_path / "other")


def test_what_else_is_there_stays(repository: Path, uri: str, tmp_path: Path) -> None:
    to(uri, repository)
    publish(tmp_path / "other", "own", "own")
    of(uri, tmp_path / "other")
    assert {model.name for model in read_repository(tmp_path / "other")} == {"m", "own"}
    assert lock.problems(tmp_path / "other") == []
    publish(tmp_path / "other", "newer here")
    assert of(uri, tmp_path / "other").models == {"m": 1}
    assert (tmp_path / "other" / "m" / "2").is_dir()
    assert answers(tmp_path / "other") == answers(repository)


def test_some_of_the_models(repository: Path, uri: str, tmp_path: Path) -> None:
    publish(repository, "other", "n")
    assert to(uri, repository, models=("n",)).models == {"n": 1}
    assert to(uri, repository, models=("m",)).models == {"m": 1}
    assert of(uri, tmp_path / "pulled", models=("n",)).models == {"n": 1}
    with pytest.raises(StoreError, match=r"has no model 'x'; it has m, n"):
        of(uri, tmp_path / "pulled", models=("x",))
    with pytest.raises(StoreError, match=r"has no model 'x'; it has m, n"):
        to(uri, repository, models=("x",))


def test_every_version_where_that_is_asked(repository: Path, uri: str, tmp_path: Path) -> None:
    publish(repository, "second", max_batch_size=4)
    to(uri, repository, every=True)
    of(uri, tmp_path / "pulled", every=True)
    assert contents(tmp_path / "pulled") == contents(repository)
    assert answers(tmp_path / "pulled") == answers(repository)


def test_what_is_pulled_is_newer_than_what_was_there(repository: Path, uri: str, tmp_path: Path) -> None:
    """Triton ignores a model in which nothing is newer; here the clock has gone back by a day since."""
    to(uri, repository)
    of(uri, tmp_path / "pulled")
    files = [path for path in (tmp_path / "pulled").rglob("*") if path.is_file()]
    ahead = max(path.stat().st_mtime for path in files) + 86400
    for path in files:
        os.utime(path, (ahead, ahead))
    publish(repository, "new")
    to(uri, repository)
    of(uri, tmp_path / "pulled")
    for name in ("m", "m_onnxruntime"):
        assert (tmp_path / "pulled" / name / layout.CONFIG).stat().st_mtime > ahead


# --- what goes ---


def test_versions_that_are_not_kept_go(repository: Path, uri: str, tmp_path: Path) -> None:
    to(uri, repository)
    for content in ("second", "third", "fourth"):
        publish(repository, content)
        to(uri, repository)
    far = far_folder(uri)
    assert {path.name for path in (far / "m").iterdir()} == {"1", "2", "3", "4", layout.CONFIG}
    to(uri, repository, retention=Retention(keep=2))
    assert {path.name for path in (far / "m").iterdir()} == {"3", "4", layout.CONFIG}
    assert {path.name for path in (far / "m_onnxruntime").iterdir()} == {"3", "4", "warmup", layout.CONFIG}
    assert lock.problems(far) == []
    of(uri, tmp_path / "pulled", every=True)
    assert answers(tmp_path / "pulled") == answers(repository)


def test_models_that_are_gone_go_where_that_is_asked(repository: Path, uri: str, tmp_path: Path) -> None:
    publish(repository, "other", "n")
    to(uri, repository)
    publish(tmp_path / "one", "other", "n")
    assert to(uri, tmp_path / "one").deleted == 0
    assert to(uri, tmp_path / "one", removed=True).deleted > 0
    assert {path.name for path in far_folder(uri).iterdir()} == {"n", "n_onnxruntime", "preprocess_1", lock.FILENAME}
    with pytest.raises(StoreError, match="--removed looks at all models"):
        to(uri, tmp_path / "one", removed=True, models=("n",))


STEPS = ["build", "format", "recipe", "keep 1", "keep 3", "back"]


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(STEPS), min_size=3, max_size=6))
def test_whatever_is_pushed_what_is_current_is_whole(steps: list[str], tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    repository, uri = folder / "repository", f"file://{folder}/far"
    publish(repository)
    for number, step in enumerate(steps):
        keep = int(step.split()[1]) if step.startswith("keep") else None
        if step == "build":
            publish(repository, f"content {number}")
        elif step == "format":
            publish(repository, f"content {number}", backend="openvino")
        elif step == "recipe":
            publish(repository, f"content {number}", step=f"preprocess_{number}")
        elif step == "back":
            go_back(repository)
        to(uri, repository, retention=Retention(keep=keep))
        of(uri, folder / "pulled")
        assert answers(folder / "pulled") == answers(repository)
        stores_killing.require_loadable(folder / "far")
    of(uri, folder / "all", every=True)
    assert answers(folder / "all") == answers(repository)


def go_back(repository: Path, name: str = "m") -> None:
    """To the version before, where the network still has it, by the configs alone."""
    (model,) = [one for one in read_repository(repository) if one.name == name]
    network, version = model.network.name, str(model.version - 1)
    parts = [repository / name, repository / network]
    if not all((part / version / layout.CONFIG).exists() for part in parts):
        return
    calls = model_config.read(parts[0] / version / layout.CONFIG).ensemble_scheduling.step
    if all((repository / call.model_name / str(call.model_version)).is_dir() for call in calls):
        for part in reversed(parts):
            with_old = (part / version / layout.CONFIG).read_text()
            switching.replace_config(repository.parent, part, with_old)


# --- what is broken ---


def test_a_repository_that_is_not_what_was_built_is_not_pushed(repository: Path, uri: str) -> None:
    (repository / "m_onnxruntime" / "1" / "model.onnx").write_text("tampered")
    with pytest.raises(RepositoryError, match=r"m_onnxruntime/1/model\.onnx differs from what was recorded"):
        to(uri, repository)
    assert contents(far_folder(uri)) == {}


def test_what_is_missing_there_is_told_and_sent_again(repository: Path, uri: str, tmp_path: Path) -> None:
    to(uri, repository)
    (far_folder(uri) / "m_onnxruntime" / "1" / "model.onnx").unlink()
    with pytest.raises(StoreError, match=r"m_onnxruntime/1/model\.onnx is missing.*push again"):
        of(uri, tmp_path / "pulled")
    assert list((tmp_path / "pulled").iterdir()) == []
    assert to(uri, repository).files == 1
    assert of(uri, tmp_path / "pulled").models == {"m": 1}


def test_what_is_damaged_there_is_not_taken(repository: Path, uri: str, tmp_path: Path) -> None:
    to(uri, repository)
    (far_folder(uri) / "m_onnxruntime" / "1" / "model.onnx").write_text("WEIGHTS")
    with pytest.raises(StoreError, match=r"m_onnxruntime/1/model\.onnx is not what its lock tells of"):
        of(uri, tmp_path / "pulled")
    assert list((tmp_path / "pulled").iterdir()) == []


def test_a_config_there_that_somebody_changed_is_put_right(repository: Path, uri: str, tmp_path: Path) -> None:
    to(uri, repository)
    (far_folder(uri) / "m" / layout.CONFIG).write_text("name: 'other'")
    of(uri, tmp_path / "pulled")
    assert answers(tmp_path / "pulled") == answers(repository)
    to(uri, repository)
    assert lock.problems(far_folder(uri)) == []


@pytest.mark.parametrize(
    "lost", ["m_onnxruntime/1/model.onnx", "m/config.pbtxt", "preprocess_1/1/model.py", "m", "m/1"]
)
def test_what_is_lost_here_comes_back(lost: str, repository: Path, uri: str) -> None:
    to(uri, repository)
    before = contents(repository)
    path = repository / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    of(uri, repository)
    assert contents(repository) == before
    assert lock.problems(repository) == []


def test_a_folder_of_somebody_else_is_left_alone(repository: Path, uri: str, tmp_path: Path) -> None:
    to(uri, repository)
    (tmp_path / "pulled" / "m").mkdir(parents=True)
    with pytest.raises(PublishError, match="was not made by build-repo"):
        of(uri, tmp_path / "pulled")
    assert list((tmp_path / "pulled").iterdir()) == [tmp_path / "pulled" / "m"]


BROKEN = {
    "no JSON": (b"{", "cannot be read"),
    "another form": (b'{"lock": 2, "models": {}}', "of another form"),
    "no models": (b'{"lock": 1, "models": {}}', "has no models"),
    "up": (b'{"lock": 1, "models": {"..": {"versions": {}}}}', "is no model"),
    "out": (
        json.dumps({"lock": 1, "models": {"m": {"versions": {"1": {"files": {"../../x": "0" * 64}}}}}}).encode(),
        "is no path",
    ),
    "no digest": (
        json.dumps({"lock": 1, "models": {"m": {"versions": {"1": {"files": {"1/x": "../../x"}}}}}}).encode(),
        "is no SHA-256",
    ),
    "no number": (b'{"lock": 1, "models": {"m": {"versions": {"../x": {"files": {}}}}}}', "is no version"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_lock_that_cannot_be_trusted(broken: str, uri: str, tmp_path: Path) -> None:
    data, words = BROKEN[broken]
    far_folder(uri).mkdir()
    (far_folder(uri) / lock.FILENAME).write_bytes(data)
    with pytest.raises(StoreError, match=words):
        of(uri, tmp_path / "pulled")
    assert not (tmp_path / "x").exists()


def test_nothing_was_pushed_there(uri: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing was pushed there"):
        of(uri, tmp_path / "pulled")


def test_any_lock_is_read_as_it_was_written(repository: Path, uri: str) -> None:
    to(uri, repository)
    data = (far_folder(uri) / lock.FILENAME).read_bytes()
    assert record.to_bytes(record.parse(data, uri)) == data
    there, here = (lock.read(folder)["m"].versions["1"] for folder in (far_folder(uri), repository))
    assert there
    assert here
    assert (there.files, there.built_from) == (here.files, here.built_from)


def test_what_clients_got_may_be_gone_back_to(repository: Path, uri: str, tmp_path: Path) -> None:
    for content in ("second", "third"):
        to(uri, repository)
        of(uri, tmp_path / "pulled")
        publish(repository, content)
    to(uri, repository)
    of(uri, tmp_path / "pulled")
    of(uri, tmp_path / "other", every=True)
    for folder in (tmp_path / "pulled", tmp_path / "other"):
        versions = lock.read(folder)["m"].versions
        assert {number: bool(one and one.was_published) for number, one in versions.items()} == {
            "1": True, "2": True, "3": True,
        }  # fmt: skip


def test_no_room_here(repository: Path, uri: str, tmp_path: Path) -> None:
    to(uri, repository)

    class Huge(Watched):
        def files(self) -> dict[str, Found]:
            return {key: Found(1 << 60) for key in super().files()}

    with places.opened(uri, False) as far, pytest.raises(NoSpace, match="bytes are to come"):
        pull(tmp_path / "pulled", Huge(far), PullOptions())
    assert of(uri, tmp_path / "pulled").models == {"m": 1}


class FakeFs:
    """fsspec's, for what real ones rarely raise."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.written: dict[str, bytes] = {}

    def pipe_file(self, path: str, data: bytes) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.written[path] = data


class NoCredentialsError(Exception):
    """As botocore's."""


class ClientError(Exception):
    """As botocore's."""


NEVER = {
    "full disk": (OSError(errno.ENOSPC, "No space left on device"), NoSpace, "no room left"),
    "full store": (ClientError("An error occurred (XMinioStorageFull) when"), NoSpace, "no room left"),
    "no credentials": (
        NoCredentialsError("Unable to locate credentials"),
        CredentialsError,
        "no credentials.*AWS_ACCESS",
    ),
    "refused": (PermissionError("Access Denied"), CredentialsError, "refuses these credentials"),
    "no bucket": (ClientError("An error occurred (NoSuchBucket) when"), StoreError, "no such bucket"),
    "odd": (ValueError("what?"), StoreError, "what.*run the same command again"),
}


@pytest.mark.parametrize("name", NEVER)
def test_what_a_store_refuses(name: str) -> None:
    error, kind, words = NEVER[name]
    with pytest.raises(BuilderError, match=words) as caught:
        Bucket(FakeFs(error), "bucket", "s3://bucket").write(b"", "key")
    assert type(caught.value) is kind


def test_what_passes_is_tried_again() -> None:
    fs = FakeFs(ConnectionResetError("reset"))
    Bucket(fs, "bucket", "s3://bucket").write(b"data", "key")
    assert fs.written == {"bucket/key": b"data"}


ADDRESSES = {
    "bucket/path": "no address",
    "s3://": "no address",
    "s3:///": "no address",
    "s3://bucket/a\nb": "no address",
    "ftp://host/path": "ftp:// of .* is not known",
    "file://host/path": "three strokes",
    "s3://key:secret@bucket/path": "no keys or passwords",
    "s3://http://localhost:9000/bucket": "Triton's form",
    "s3://localhost:9000/bucket": "Triton's form",
    "gs://bucket/path": r"pip install 'triton-build-repo\[gcs\]'",
    "az://container/path": r"pip install 'triton-build-repo\[azure\]'",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_that_are_none(address: str, repository: Path) -> None:
    with pytest.raises(StoreError, match=ADDRESSES[address]) as caught:
        to(address, repository)
    assert "secret" not in str(caught.value)
