"""Rollouts that go wrong before anything changed, and of a model that is served by itself, with TLS and a key."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import trustme
from conftest import build
from explicit_servers import Running, serving
from fake_triton import FakeTriton
from published import publish_model
from swapping import sample, scores
from test_rollout import PATIENT, settled

from builder.errors import RepositoryError, RolloutError, ServerAway, ServerOdd
from builder.lifecycle.rollout import RolloutOptions, roll_out
from builder.lifecycle.serving import serving as served
from builder.repository import layout
from builder.triton.connection import Access, connected
from builder.triton.control import answers, secret_arguments

KEY = "0123456789abcdef0123456789abcdef"
NETWORK = """
import torch
from torch import nn


def line(seed):
    torch.manual_seed(seed)
    return nn.Linear(4, 2)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of a model that is served by itself; the first is published."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "nets.py").write_text(NETWORK)
    np.savez(folder / "few.npz", input=np.random.default_rng(0).standard_normal((3, 4)).astype("float32"))
    for seed in (1, 2):
        build(
            folder,
            "models:\n  line: {task: tensors, network: nets.py:line, weights: included, format: onnx, "
            f"samples: [few.npz], outputs: [output], arguments: {{seed: {seed}}}}}\n",
        )
    publish(folder / "repository", 1)
    return folder / "repository"


def publish(repository: Path, number: int) -> None:
    temporary = repository.parent / "temporary"
    shutil.copy(repository / "line" / str(number) / layout.CONFIG, temporary)
    temporary.replace(repository / "line" / layout.CONFIG)


@contextmanager
def http_server(status: int, body: bytes, kind: str = "text/html") -> Iterator[str]:
    """Whatever it is asked, that is what it says; what stands for it in the URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(10)


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (200, b"<html>Welcome to nginx</html>", ServerOdd, "does not speak Triton's protocol: it answers '<html>Wel"),
        (404, b"<html>404</html>", ServerOdd, "HTTP 404 '<html>404"),
        (502, b"<html>Bad gateway</html>", ServerAway, "a proxy whose server is away: HTTP 502"),
        (200, b'{"name": "other"}', ServerOdd, "it answers .*other"),
        (200, b"[1, 2]", ServerOdd, r"it answers '\[1, 2\]'"),
        (
            403,
            b'{"error": "This API is restricted, expecting header \'build-repo-admin-key\'"}',
            ServerOdd,
            "--admin-key",
        ),
        (
            500,
            b'{"error": "explicit model load / unload is not allowed if polling is enabled"}',
            ServerOdd,
            "=explicit",
        ),
        (200, b"", ServerOdd, "it answers 'null'"),
    ],
)
def test_what_answers_is_no_triton(
    status: int, body: bytes, error: type[Exception], said: str, repository: Path
) -> None:
    with http_server(status, body) as address, pytest.raises(error, match=said) as caught:
        roll_out(repository, [Access(f"http://{address}")], PATIENT)
    assert type(caught.value) is error


def test_whether_anything_speaks_http() -> None:
    with http_server(500, b"") as address:
        assert answers(f"http://{address}/metrics")
    assert not answers("http://127.0.0.1:1/metrics")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not answers(f"http://127.0.0.1:{silent.getsockname()[1]}/metrics", 0.2)


def test_grpc_is_asked_where_http_answers(repository: Path) -> None:
    with http_server(200, b"hello") as address, pytest.raises((ServerOdd, ServerAway), match=r"is this .*port"):
        roll_out(repository, [Access(address)], PATIENT)


def test_grpc_of_something_else(fake: tuple[FakeTriton, str], repository: Path) -> None:
    with pytest.raises(ServerOdd, match="does not speak Triton's protocol"):
        roll_out(repository, [Access(fake[1])], PATIENT)


@pytest.mark.parametrize(
    ("details", "first", "later"),
    [
        ("Stream removed (Socket closed)", ServerAway, ServerAway),
        ("Stream removed (Data frame with END_STREAM flag received)", ServerOdd, ServerAway),
        ("bad samples: Stream removed (Socket closed)", RolloutError, RolloutError),
    ],
)
def test_a_stream_that_is_cut_short(
    details: str, first: type[Exception], later: type[Exception], fake: tuple[FakeTriton, str]
) -> None:
    """What spoke Triton's protocol a moment ago was killed since, whatever gRPC calls it."""
    fake[0].behave = lambda _call, _request, context: context.abort(grpc.StatusCode.UNKNOWN, details)
    for spoke, expected in ((False, first), (True, later)):
        connection = connected(Access(fake[1]))
        try:
            if spoke:
                connection.repository_index()
            with pytest.raises(RolloutError, match="Stream removed") as caught:
                connection.infer("pets", [])
            assert type(caught.value) is expected
        finally:
            connection.close()


@pytest.mark.parametrize("url", ["127.0.0.1:1", "http://127.0.0.1:1"])
def test_nobody_answers(url: str, repository: Path) -> None:
    with pytest.raises(ServerAway, match="does not answer"):
        roll_out(repository, [Access(url)], PATIENT)


def test_a_repository_that_is_not_what_was_built_is_not_rolled_out(repository: Path, tmp_path: Path) -> None:
    """Before any server is asked: there is none."""
    for damage, said in ((lambda path: path.unlink(), "is missing"), (lambda path: path.write_bytes(b"x"), "differs")):
        folder = tmp_path / said.replace(" ", "-")
        shutil.copytree(repository, folder)
        damage(folder / "line" / "1" / "model.onnx")
        with pytest.raises(RepositoryError, match=rf"no server is touched:\n  line/1/model.onnx {said}"):
            roll_out(folder, [Access("127.0.0.1:1")], PATIENT)
    shutil.rmtree(folder / "line" / "1")
    with pytest.raises(RepositoryError):
        roll_out(folder, [Access("127.0.0.1:1")], PATIENT)


def test_a_damaged_version_that_is_not_published_is_no_obstacle(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository, tmp_path / "repository")
    (tmp_path / "repository" / "line" / "2" / "model.onnx").unlink()
    with pytest.raises(ServerAway):
        roll_out(tmp_path / "repository", [Access("127.0.0.1:1")], PATIENT)


def test_a_lock_that_cannot_be_read(tmp_path: Path) -> None:
    publish_model(tmp_path / "repository")
    (tmp_path / "repository" / "build-repo.lock.json").write_text("{")
    with pytest.raises(RepositoryError, match="cannot be read"):
        roll_out(tmp_path / "repository", [Access("127.0.0.1:1")], PATIENT)


def certificates(folder: Path) -> tuple[Path, list[str]]:
    """The authority's, and the server's options."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(str(folder / "server.key"))
    (folder / "server.pem").write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    options = ["use-ssl=true", f"server-cert={folder / 'server.pem'}", f"server-key={folder / 'server.key'}"]
    return folder / "authority.pem", [f"--grpc-{option}" for option in options]


@pytest.fixture(scope="module")
def guarded(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Access]]:
    """A server with TLS for gRPC, whose control needs a key; its own administrator."""
    folder = tmp_path_factory.mktemp("guarded")
    ca, options = certificates(folder)
    with serving(repository, folder, [*options, *secret_arguments(KEY)], key=KEY) as running:
        yield running, Access(f"grpcs://{running.grpc}", KEY, ca)


Guarded = tuple[Running, Access]


def asked(access: Access, repository: Path, number: int) -> tuple[int, bool]:
    """The version that answers, and whether it says what that version was recorded to say."""
    one = sample(repository, number, "line")
    connection = connected(access)
    answer = connection.infer("line", one.inputs)
    connection.close()
    return answer.version, bool(np.allclose(scores(answer.outputs[0]), scores(one.outputs[0]), atol=1e-5))


def test_a_model_by_itself_over_tls_with_a_key(guarded: Guarded, repository: Path) -> None:
    running, access = guarded
    for number, reached in ((2, access), (1, Access(running.http, KEY)), (2, access)):
        publish(repository, number)
        (result,) = roll_out(repository, [reached], PATIENT)
        assert [change.after for change in result.changes] == [number]
        assert served(access) == {"line": number}
        assert asked(access, repository, number) == (number, True)
    publish(repository, 1)
    assert roll_out(repository, [access], RolloutOptions(keep_loaded=True))[0].changes[0].before == 2
    assert asked(access, repository, 1) == (1, True)


@pytest.mark.parametrize("key", [None, "another key, of thirty characters".replace(" ", "-")])
def test_without_the_key(key: str | None, guarded: Guarded, repository: Path) -> None:
    running, access = guarded
    publish(repository, 2)
    for reached in (Access(access.url, key, access.ca), Access(running.http, key)):
        with pytest.raises(ServerOdd, match=r"administrator.*--admin-key-file"):
            roll_out(repository, [reached], PATIENT)
    with pytest.raises(ServerAway):
        roll_out(repository, [Access(access.url, KEY)], PATIENT)  # nor without the authority
    publish(repository, 1)


def test_a_wrong_network_by_itself_is_refused_before_it_takes_traffic(
    guarded: Guarded, repository: Path, tmp_path: Path
) -> None:
    _, access = guarded
    publish(repository, 1)
    roll_out(repository, [access], PATIENT)
    artifact = repository / "line" / "2" / "model.onnx"
    sound, lock = artifact.read_bytes(), repository / "build-repo.lock.json"
    lock.rename(tmp_path / "lock")  # as where it was built wrongly
    try:
        artifact.write_bytes((repository / "line" / "1" / "model.onnx").read_bytes())
        publish(repository, 2)
        with pytest.raises(
            RolloutError, match=r"the trial failed: golden sample 1 .* is off by .*Of line, 1 serves on"
        ):
            roll_out(repository, [access], PATIENT)
    finally:
        artifact.write_bytes(sound)
        (tmp_path / "lock").rename(lock)
    assert asked(access, repository, 1) == (1, True)
    roll_out(repository, [access], PATIENT)
    assert asked(access, repository, 2) == (2, True)


class Killing:
    """A connection to a server that is killed as it is told to load what is published."""

    def __init__(self, connection: Any, server: Running) -> None:
        self._connection, self._server = connection, server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def load_model(self, name: str, *args: Any, **kwargs: Any) -> None:
        if name == "line":
            self._server.process.kill()
            self._server.process.wait(30)
        self._connection.load_model(name, *args, **kwargs)


def test_a_server_that_vanishes_in_the_middle(repository: Path, tmp_path: Path) -> None:
    publish(repository, 1)
    with serving(repository, tmp_path) as running:
        publish(repository, 2)
        said = r"line was not brought to version 2: the switch failed.*run the same command again"
        with pytest.raises(ServerAway, match=said):
            roll_out(
                repository, [Access(running.grpc)], PATIENT, connect=lambda where: Killing(connected(where), running)
            )


def test_a_server_that_takes_no_orders(repository: Path, tmp_path: Path) -> None:
    publish(repository, 1)
    with serving(repository, tmp_path, ["--repository-poll-secs=3600"], mode="poll") as running:
        publish(repository, 2)
        for url in (running.grpc, running.http):
            with pytest.raises(ServerOdd, match="start it with --model-control-mode=explicit"):
                roll_out(repository, [Access(url)], PATIENT)
        assert served(Access(running.grpc)) == {"line": 1}
        settled(running)


def test_errors_hold_no_key(repository: Path) -> None:
    access = Access("127.0.0.1:1", KEY)
    with pytest.raises(ServerAway) as caught:
        roll_out(repository, [access], PATIENT)
    assert not re.search(KEY, f"{caught.value} {access} {json.dumps(str(caught.value))}")
