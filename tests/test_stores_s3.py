"""Push and pull against a real S3 server, and the real tritonserver that reads from it."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warm
from conftest import build
from processes import started
from rebuilding import entry
from stores_servers import BUCKET, BY_NAME, S3, Watched, free_port, s3, triton
from test_stores import contents, of, publish, to
from waiting import until
from wholeness import answers

from builder.data.images import SAMPLES
from builder.errors import CredentialsError, StoreError
from builder.lifecycle.rollout import RolloutOptions, roll_out
from builder.repository import lock
from builder.repository.rollback import roll_back
from builder.stores import places
from builder.stores.push import PushOptions, push
from builder.triton.connection import Access
from client import Client

BIG = 34_000_000
"""Goes in parts."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3(tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture
def credentials(store: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    for name in BY_NAME:
        monkeypatch.delenv(name, raising=False)
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    return store


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return warm.run("builder", *words, environment=os.environ | environment)


def test_there_and_back_in_parts(credentials: S3, tmp_path: Path) -> None:
    repository, uri = tmp_path / "repository", credentials.uri("a b/models")
    publish(repository, os.urandom(BIG))
    assert to(uri, repository).models == {"m": 1}
    assert of(uri, tmp_path / "pulled").models == {"m": 1}
    assert contents(tmp_path / "pulled") == contents(repository)
    again = to(uri, repository)
    assert (again.files, again.deleted) == (0, 0)
    publish(repository, "new")
    assert to(uri, repository, models=("m",)).bytes < BIG
    of(uri, tmp_path / "pulled")
    assert answers(tmp_path / "pulled") == answers(repository)


def test_what_a_push_left_that_was_cut_off_is_not_sent_again(credentials: S3, tmp_path: Path) -> None:
    """By what S3 says of the content, since no lock tells of it yet."""
    repository, uri = tmp_path / "repository", credentials.uri("cut")
    publish(repository, os.urandom(BIG))

    def end(key: str) -> None:
        if key == lock.FILENAME:
            raise KeyboardInterrupt

    with places.opened(uri, True) as far:
        with pytest.raises(KeyboardInterrupt):
            push(repository, Watched(far, end), PushOptions())
        counting = Watched(far)
        push(repository, counting, PushOptions())
    assert set(counting.sent) <= {lock.FILENAME, "m_onnxruntime/1/model.onnx"}
    if "m_onnxruntime/1/model.onnx" in counting.sent:
        pytest.fail(f"the large one went twice: {far.files()['m_onnxruntime/1/model.onnx']}")


def test_killed_at_any_moment_a_pull_sees_the_old_or_the_new(credentials: S3, tmp_path: Path) -> None:
    """Some seconds: programs that import what they need, and are killed as soon as so many objects have come."""
    repository, uri = tmp_path / "repository", credentials.uri("killed")
    publish(repository)
    to(uri, repository)
    folder = credentials.folder / BUCKET / "killed"
    old, before = answers(repository), objects(folder)
    publish(repository, os.urandom(BIG), max_batch_size=4)
    states = set()
    for number in (1, 4):
        push_until(uri, repository, lambda number=number: len(objects(folder) ^ before) >= number)  # type: ignore[misc]
        pulled = tmp_path / f"pulled {number}"
        of(uri, pulled)
        states.add(answers(pulled))
    assert states <= {old, answers(repository)}
    assert old in states
    to(uri, repository)
    of(uri, tmp_path / "pulled")
    assert answers(tmp_path / "pulled") == answers(repository)


def push_until(uri: str, repository: Path, is_fatal: Callable[[], bool]) -> None:
    command = [sys.executable, "-m", "builder", "push", uri, "-r", repository]
    with started(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until(lambda: process.poll() is not None or is_fatal(), pause=0.002)
        process.send_signal(signal.SIGKILL)
        process.wait(30)


def objects(folder: Path) -> set[tuple[str, int]]:
    """What rclone's server has, without what it is making."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".rclone")]
    return {(str(path), path.stat().st_mtime_ns) for path in found if path.exists()}


def test_a_server_that_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some seconds, since it is tried again before it is given up."""
    repository, port = tmp_path / "repository", free_port()
    publish(repository, os.urandom(BIG))
    seen: list[str] = []
    with ExitStack() as running:
        store = running.enter_context(s3(tmp_path / "store", port))
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        uri = store.uri("models")

        def end(key: str) -> None:
            seen.append(key)
            if len(seen) == 3:
                running.close()

        with places.opened(uri, True) as far, pytest.raises(StoreError, match=r"again, which goes on where"):
            push(repository, Watched(far, end), PushOptions())
    with s3(tmp_path / "store", port):
        assert to(uri, repository).models == {"m": 1}
        assert of(uri, tmp_path / "pulled").models == {"m": 1}


BAD: dict[str, tuple[dict[str, str], str, int, str]] = {
    "key": ({"AWS_SECRET_ACCESS_KEY": "guessed"}, BUCKET, 28, "refuses these credentials"),
    "bucket": ({}, "no-such-bucket", 27, "no such bucket"),
    "endpoint": ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, BUCKET, 27, "see that the store can be reached"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_and_nothing_is_lost(
    name: str, credentials: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, bucket, code, words = BAD[name]
    publish(tmp_path / "repository")
    done = run("push", f"s3://{bucket}/wrong", "-r", tmp_path / "repository", **environment)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert credentials.environment["AWS_SECRET_ACCESS_KEY"] not in done.stderr
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(StoreError, match=words) as caught:
        of(f"s3://{bucket}/wrong", tmp_path / "pulled")
    assert caught.value.exit_code == code
    assert answers(tmp_path / "repository")


class Garbage(http.server.BaseHTTPRequestHandler):
    """What a captive portal, or a proxy of somebody else, answers to everything."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Please log in</html>")

    do_GET = do_PUT = do_HEAD = do_POST = answer

    def log_message(self, *_: object) -> None:
        pass


def test_what_answers_is_no_store(credentials: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path / "repository")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Garbage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        for act in (to, of):
            with pytest.raises(StoreError, match=r"build-repo\.lock\.json cannot be read"):
                act(credentials.uri("garbage"), tmp_path / "repository")
        server.shutdown()
    assert answers(tmp_path / "repository")


def test_without_any_credentials(credentials: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    publish(tmp_path / "repository")
    with pytest.raises(CredentialsError, match=r"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        to(credentials.uri("none"), tmp_path / "repository")


def test_the_commands_tell_programs(credentials: S3, tmp_path: Path) -> None:
    publish(tmp_path / "repository")
    uri = credentials.uri("told")
    pushed = json.loads(run("push", uri, "-r", tmp_path / "repository", "--keep", "3", "--json").stdout)
    assert (pushed["uri"], pushed["models"], pushed["signed"]) == (uri, {"m": 1}, False)
    pulled = json.loads(run("pull", uri, "m", "-r", tmp_path / "pulled", "--json").stdout)
    assert (pulled["models"], pulled["verified"]) == ({"m": 1}, False)
    assert run("push", uri, "-r", tmp_path / "repository", "--older-than", "soon").returncode == 2


# --- tritonserver reads it itself ---


def test_a_server_that_reads_the_store_is_brought_to_what_is_pushed_next(credentials: S3, tmp_path: Path) -> None:
    """A real server that loads three versions of a small network from S3, and two builds before: half a minute."""
    repository, uri = tmp_path / "repository", credentials.uri("served")
    build(tmp_path, "models:\n" + entry(), repository)
    to(uri, repository)
    with triton(repository, credentials.triton_uri("served"), credentials.environment, ["m"]) as server:
        until(lambda: ready(server.grpc), told=lambda: "the model is not ready")
        with Client(server.grpc) as client:
            first = ask(client)
            build(tmp_path, "models:\n" + entry(seed="1"), repository)
            to(uri, repository)
            assert ask(client) == first
            assert rolled_out(repository, server.grpc) == [("m", 1, 2)]
            second = ask(client)
            assert not np.allclose(first, second)
            roll_back(repository, "m")
            assert to(uri, repository).models == {"m": 1}
            assert rolled_out(repository, server.grpc) == [("m", 2, 1)]
            back = ask(client)
    assert np.allclose(back, first)


def rolled_out(repository: Path, address: str) -> list[tuple[str, int | None, int]]:
    (result,) = roll_out(repository, [Access(address)], RolloutOptions())
    return [(change.model, change.before, change.after) for change in result.changes]


def connection(address: str) -> Any:
    import tritonclient.grpc as triton_grpc

    return triton_grpc.InferenceServerClient(address)


def ready(address: str) -> bool:
    with connection(address) as client:
        return bool(client.is_server_ready()) and bool(client.is_model_ready("m"))


def ask(client: Client) -> list[float]:
    found = client.classify((SAMPLES / "chelsea.jpg").read_bytes(), "m", top=3)
    return [one.probability for one in sorted(found, key=lambda one: one.label)]
