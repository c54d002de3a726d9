"""A server that cannot answer anybody is a server that is away, whatever its own health says."""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
import waiting
from conftest import ANY_PORTS, build
from fake_triton import FakeTriton, refuse
from gateways import gateway
from processes import started

from builder.data.images import SAMPLES
from builder.launchers import LAUNCHERS
from builder.types import Endpoints
from client import AsyncClient, Client, ClientError, ModelNotFound, ServerError, ServerUnavailable
from client.endpoint import parse
from client.gateway.health import KNOWN_SECONDS, Health
from client.gateway.models import Models
from client.images import gray_picture

Fake = tuple[FakeTriton, str]
RAW = {"content-type": "image/jpeg"}
DEAD = "Stub process 'pets_torchscript_0_0' is not healthy."

# What Triton 2.51 says, by gRPC and by HTTP, and what it means. The dead worker's words were heard from a server one of
# whose workers was killed, before and during a request, of an ensemble and of a model by itself.
AWAY = [
    ("INTERNAL", "500", f"in ensemble 'pets', {DEAD}"),
    ("INTERNAL", "500", DEAD),
    ("INTERNAL", "500", f"in ensemble 'a', in ensemble 'b', [request id: 7] {DEAD}"),
    ("INTERNAL", "500", "Stub process is not healthy."),
    ("INTERNAL", "500", f"Failed to process the request(s) for model instance 'pets_0_0', message: {DEAD}"),
    ("NOT_FOUND", "404", "Request for unknown model: 'pets' has no available versions"),
    ("NOT_FOUND", "404", "Request for unknown model: 'pets' version 1 is not at ready state"),
    ("UNAVAILABLE", "503", "'pets' version 1 is not at ready state"),
    ("UNAVAILABLE", "503", "Server not ready"),
    ("UNAVAILABLE", "503", "Server is stopping, scheduler for model has stopped accepting new inference requests"),
    ("UNAVAILABLE", "503", "Exceeds maximum queue size"),
    ("UNAVAILABLE", "503", "Request timeout expired"),
]
# The same words in a model's own error about one image, which its sender may have written into it.
OF_THE_IMAGE = [
    ("INTERNAL", "500", f"ValueError: bad EXIF: {DEAD}", ServerError),
    ("INTERNAL", "500", f"{DEAD} said the image", ServerError),
    ("INTERNAL", "500", "Stub process 'x' is not healthy. is not healthy.", ServerError),
    (
        "INTERNAL",
        "500",
        "Failed to process the request(s) for model instance 'pets_0_0', message: KeyError",
        ServerError,
    ),
    ("NOT_FOUND", "404", "Request for unknown model: 'pets' is not found", ModelNotFound),
]


@pytest.mark.parametrize(("status", "code", "message"), AWAY)
def test_nobody_can_be_answered(status: str, code: str, message: str) -> None:
    for url, given in {"host:1": f"StatusCode.{status}", "http://host:1": code}.items():
        error = parse(url).error(given, message)
        assert type(error) is ServerUnavailable
        assert error.exit_code == 3
        assert error.gone == ("healthy" in message)


@pytest.mark.parametrize(("status", "code", "message", "kind"), OF_THE_IMAGE)
def test_one_image_cannot_be_answered(status: str, code: str, message: str, kind: type[ClientError]) -> None:
    for url, given in {"host:1": f"StatusCode.{status}", "http://host:1": code}.items():
        assert type(parse(url).error(given, message)) is kind


def test_an_answer_that_is_cut_short_is_asked_for_again() -> None:
    """Heard through a proxy whose server was killed; a model's own error may have the words, but not the status."""
    message = "Stream removed (Data frame with END_STREAM flag received)"
    error = parse("host:1").error("StatusCode.UNKNOWN", message)
    assert type(error) is ServerUnavailable
    assert error.gone
    assert type(parse("host:1").error("StatusCode.INTERNAL", message)) is ServerError
    assert type(parse("host:1").error("StatusCode.UNKNOWN", f"bad EXIF: {message}")) is ServerError


def test_dead_worker_is_tried_again_within_bounds(fake: Fake) -> None:
    fake[0].behave = refuse(grpc.StatusCode.INTERNAL, 2, DEAD)
    with Client(fake[1], retries=2) as client:
        assert client.classify(b"jpeg")
        assert fake[0].calls == 3
        fake[0].behave = refuse(grpc.StatusCode.INTERNAL, message=DEAD)
        with pytest.raises(ServerUnavailable, match="a worker process of the server is dead"):
            client.classify(b"jpeg")
        assert fake[0].calls == 6


def cli(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "client.cli", *map(str, arguments)]


def test_classify_ends_with_its_rows_kept(fake: Fake, tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.jpg").write_bytes(b"%d" % number)
    table = tmp_path / "out.csv"
    command = cli("classify", tmp_path, "--csv", table, "--url", fake[1], "--retries", "0", "--concurrency", "1")
    fake[0].behave = refuse_all_but(b"0", b"1")
    done = subprocess.run([*command, "--batch-size", "1"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 3, done.stderr
    assert not table.exists()
    fake[0].behave = lambda *_: None
    before = fake[0].calls
    done = subprocess.run([*command, "--batch-size", "1"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "healthy" not in table.read_text()
    assert fake[0].calls - before == 3  # the two rows were kept


def refuse_all_but(*good: bytes) -> Callable[[int, Any, grpc.ServicerContext], None]:
    def behave(_: int, request: Any, context: grpc.ServicerContext) -> None:
        if request.raw_input_contents[0][4:] not in good:
            context.abort(grpc.StatusCode.INTERNAL, DEAD)

    return behave


class Watched:
    """A folder that `moderate` watches until the stack ends, with --fail-open and a place for what is clean."""

    def __init__(self, stack: ExitStack, base: Path, url: str, forbid: str, *options: str) -> None:
        self.uploads, self.public, self.quarantine = base / "uploads", base / "public", base / "quarantine"
        self.uploads.mkdir()
        places = ["--quarantine", self.quarantine, "--release", self.public, "--url", url, "--fail-open"]
        timing = ["--settle", "0.1", "--interval", "0.05", "--retries", "0"]
        command = cli("moderate", self.uploads, "--forbid", forbid, *places, *timing, *options)
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        self.process = stack.enter_context(started(command, text=True, **pipes))

    def waits(self) -> bool:
        assert self.process.stderr is not None
        return "waiting for the server" in self.process.stderr.readline()

    def eventually(self, names: set[str], folder: Path, seconds: float = 60) -> bool:
        deadline = time.monotonic() + seconds
        while names - {path.name for path in folder.glob("*")} and time.monotonic() < deadline:
            time.sleep(0.05)
        return not names - {path.name for path in folder.glob("*")}

    def audited(self, name: str) -> dict[str, Any]:
        """The file's line, which is written once the file has moved."""
        return waiting.until(lambda: self._audit().get(name), told=self._audit)

    def _audit(self) -> dict[str, dict[str, Any]]:
        path = self.quarantine / "audit.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return {Path(record["path"]).name: record for record in map(json.loads, lines)}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    with ExitStack() as stack:
        yield lambda url, forbid="dog: large", *options: Watched(stack, tmp_path, url, forbid, *options)


def judging(servicer: FakeTriton, trouble: Callable[[bytes, grpc.ServicerContext], None]) -> None:
    """Images that begin with `dog` are dogs."""
    servicer.behave = lambda _, request, context: trouble(request.raw_input_contents[0][4:], context)
    servicer.probabilities = lambda image: (0.1, 0.9) if image.startswith(b"dog") else (0.9, 0.1)


NOBODY = [
    (grpc.StatusCode.INTERNAL, DEAD),
    (grpc.StatusCode.INTERNAL, "CUDA error: an illegal memory access was encountered"),
    (grpc.StatusCode.INVALID_ARGUMENT, "inference input 'IMAGE' is not an input of the model"),
]


@pytest.mark.parametrize(("status", "message"), NOBODY)
def test_where_nobody_is_answered_nothing_is_released(
    status: grpc.StatusCode, message: str, fake: Fake, watched: Callable[..., Watched]
) -> None:
    """Whatever the error says: as for a picture that was answered before, it is not about the file."""
    away = threading.Event()
    judging(fake[0], lambda _, context: context.abort(status, message) if away.is_set() else None)
    moderating = watched(fake[1])
    (moderating.uploads / "a.jpg").write_bytes(b"dog")
    assert moderating.eventually({"a.jpg"}, moderating.quarantine)
    away.set()
    (moderating.uploads / "b.jpg").write_bytes(b"dog")
    (moderating.uploads / "c.jpg").write_bytes(b"cat")
    assert moderating.waits()
    deadline, enough = time.monotonic() + 60, fake[0].calls + 7  # more than the attempts that each file has
    while fake[0].calls < enough and time.monotonic() < deadline:
        time.sleep(0.05)
    assert {path.name for path in moderating.uploads.iterdir()} == {"b.jpg", "c.jpg"}
    away.clear()
    assert moderating.eventually({"b.jpg"}, moderating.quarantine)
    assert moderating.eventually({"c.jpg"}, moderating.public)


def test_server_that_is_dead_at_the_start_is_waited_for(fake: Fake, watched: Callable[..., Watched]) -> None:
    fake[0].behave = refuse(grpc.StatusCode.INTERNAL, message=DEAD)
    moderating = watched(fake[1])
    (moderating.uploads / "a.jpg").write_bytes(b"dog")
    assert moderating.waits()
    judging(fake[0], lambda *_: None)
    assert moderating.eventually({"a.jpg"}, moderating.quarantine)


def test_image_that_kills_the_worker_is_quarantined_and_holds_up_nobody(
    fake: Fake, watched: Callable[..., Watched]
) -> None:
    """As a worker that is started anew each time; not released either, for all --fail-open."""
    dead = threading.Event()

    def trouble(image: bytes, context: grpc.ServicerContext) -> None:
        if image.startswith(b"poison"):
            dead.set()
            threading.Timer(0.4, dead.clear).start()
        if dead.is_set():
            context.abort(grpc.StatusCode.INTERNAL, DEAD)

    judging(fake[0], trouble)
    moderating = watched(fake[1])
    (moderating.uploads / "a.jpg").write_bytes(b"poison")
    (moderating.uploads / "b.jpg").write_bytes(b"dog")
    (moderating.uploads / "c.jpg").write_bytes(b"cat")
    assert moderating.eventually({"a.jpg", "b.jpg"}, moderating.quarantine)
    assert moderating.eventually({"c.jpg"}, moderating.public)
    assert "failed 3 times" in moderating.audited("a.jpg")["reason"]


def test_image_that_fails_the_model_alone_is_unjudged(fake: Fake, watched: Callable[..., Watched]) -> None:
    def trouble(image: bytes, context: grpc.ServicerContext) -> None:
        if image.startswith(b"odd"):
            context.abort(grpc.StatusCode.INTERNAL, f"ValueError: {DEAD}")

    judging(fake[0], trouble)
    moderating = watched(fake[1])
    (moderating.uploads / "a.jpg").write_bytes(b"odd")
    (moderating.uploads / "b.jpg").write_bytes(b"dog")
    assert moderating.eventually({"b.jpg"}, moderating.quarantine)
    assert moderating.eventually({"a.jpg"}, moderating.public)  # as --fail-open says


def until(status: int, url: str, seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while httpx.get(url + "/readyz", timeout=20).status_code != status:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


@pytest.mark.parametrize("asked", [True, False], ids=["beside callers", "with none"])
def test_gateway_is_not_ready_while_a_worker_is_dead(asked: bool, fake: Fake) -> None:
    with gateway(fake[1], "--retries", "0") as url:
        assert httpx.get(url + "/readyz").status_code == 200
        fake[0].behave = refuse(grpc.StatusCode.INTERNAL, message=DEAD)
        if asked:
            answer = httpx.post(url + "/classify", content=b"x", headers=RAW)
            assert answer.status_code == 503
            assert answer.json()["error"]["type"] == "ServerUnavailable"
            assert "retry-after" in answer.headers
        assert until(503, url)
        fake[0].behave = lambda *_: None
        assert until(200, url)


async def _asked_often(url: str, times: int) -> tuple[list[bool], list[bool]]:
    """Readiness, asked for by many at once at five moments, the second of which falls into an image's failure."""
    now = 0.0
    async with AsyncClient(url, retries=0) as client:
        health = Health(client, Models(client, "pets"), lambda: now)
        told: list[bool] = []
        for moment in range(5):
            now = moment * KNOWN_SECONDS / 5
            health.failed("pets")
            told += [await health.ready() for _ in range(times)]
        now = 2 * KNOWN_SECONDS
        health.answered("pets")
        return told, [await health.ready() for _ in range(times)]


def test_who_floods_readiness_loads_the_gateway_alone(fake: Fake) -> None:
    """One probe, however often it is asked, and whatever images fail; none where callers were answered."""
    seen: list[bytes] = []
    fake[0].behave = lambda _, request, __: seen.append(request.raw_input_contents[0][4:])
    in_doubt, known = asyncio.run(_asked_often(fake[1], 50))
    assert all(in_doubt)
    assert all(known)
    assert seen == [gray_picture()]


MANIFEST = """
models:
  pets:
    network: small.py:small
    weights: random
    labels: [cat, dog, bird]
    preprocess: {channels: 3, resize: 40, crop: 32}
"""


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Endpoints]:
    """A real server of this test's own."""
    build(tmp_path, MANIFEST)
    running = LAUNCHERS["embedded"].launch(tmp_path / "repository", ANY_PORTS)
    yield running.endpoints
    running.stop()


def workers(word: str) -> list[psutil.Process]:
    """Of this test's own server, by a word of their command lines."""
    children = psutil.Process().children(recursive=True)
    stubs = [child for child in children if child.name().startswith("triton_python_b")]
    return [stub for stub in stubs if word in " ".join(stub.cmdline())]


def test_worker_of_a_real_server_is_killed(mortal: Endpoints, watched: Callable[..., Watched]) -> None:
    """Again and again, in case that it is started anew. Whatever the server says, nobody takes it for the image's."""
    photo = SAMPLES / "coffee.jpg"
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.05):
            with contextlib.suppress(psutil.Error):  # it is dead already
                for worker in workers("pets_torchscript"):
                    worker.kill()

    moderating = watched(mortal.grpc, "cat,dog,bird", "--threshold", "0.99")
    (moderating.uploads / "a.jpg").write_bytes(photo.read_bytes())
    assert moderating.eventually({"a.jpg"}, moderating.quarantine)
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for url in (mortal.grpc, f"http://{mortal.http}"):
            with (
                Client(url, retries=1) as client,
                pytest.raises(ServerUnavailable, match=r"is not healthy|no available versions"),
            ):
                list(iter(lambda: client.classify(photo, "pets"), None))  # until it is dead
        (moderating.uploads / "b.jpg").write_bytes(photo.read_bytes())
        assert moderating.waits()
        with gateway(mortal.grpc, "--retries", "0") as url:
            assert until(503, url)
            body = photo.read_bytes()
            assert httpx.post(url + "/classify", content=body, headers=RAW, timeout=40).status_code == 503
        assert {path.name for path in moderating.uploads.iterdir()} == {"b.jpg"}
        assert not moderating.public.exists()
    finally:
        over.set()
        killer.join(60)
