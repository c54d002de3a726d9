"""The gateway among slow clients, monitors, and models that are no classifiers."""

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fake_triton import serving
from gateways import gateway
from waiting import until

from client import Client
from client.endpoint import parse
from client.errors import ModelNotFound
from client.gateway.app import Gateway, make_app
from client.gateway.connections import Connections, most_connections
from client.gateway.protocol import Part
from client.gateway.settings import Settings
from client.transports.grpc import channel_options

RAW = {"content-type": "image/jpeg"}
BEGUN = b"POST /classify HTTP/1.1\r\nHost: x\r\n"
WHOLE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        yield connection


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as (_, triton), gateway(triton, "--header-timeout", "0.5") as address:
        yield address


def ended(connection: socket.socket) -> bytes:
    """What came until the gateway ended the connection, to which lines are sent all the while."""
    came = b""
    connection.settimeout(0.05)

    def is_over() -> bool:
        nonlocal came
        try:
            connection.sendall(b"X-Slow: 1\r\n")
            came += (chunk := connection.recv(4096))
        except TimeoutError:
            return False
        except OSError:
            return True
        return not chunk

    until(is_over)
    return came


def test_headers_that_dawdle_are_given_up(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(BEGUN)
        assert ended(connection).startswith(b"HTTP/1.1 408")


def test_headers_of_a_later_request_are_given_up_too(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(WHOLE)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        connection.sendall(BEGUN)
        assert b"408" in ended(connection)


def test_who_only_connects_is_sent_nothing(url: str) -> None:
    with connected(url) as connection:
        assert connection.recv(4096) == b""


def test_a_body_goes_on_beyond_the_time_for_headers(url: str) -> None:
    def body() -> Iterator[bytes]:
        for number in range(3):
            yield b"x"
            with connected(url) as another:  # which is ended after that time
                assert another.recv(1) == b"" or number

    assert httpx.post(url + "/classify", content=body(), headers=RAW, timeout=30).status_code == 200


class Connection:
    """As much of uvicorn's protocol as is looked at."""

    def __init__(self) -> None:
        self.cycle: Any = None
        self.part = Part.NONE
        self.ends: list[str] = []
        self.unread = 0
        self.transport = SimpleNamespace(
            abort=lambda: self.ends.append("abort"),
            close=lambda: self.ends.append("close"),
            get_write_buffer_size=lambda: self.unread,
        )

    @property
    def is_asked(self) -> bool:
        return self.cycle is not None


def test_beyond_the_limit_who_has_asked_nothing_for_longest_goes(caplog: pytest.LogCaptureFixture) -> None:
    async def crowd() -> list[Connection]:
        connections = Connections(2, 3600, 3600)
        first, *others = crowded = [Connection() for _ in range(5)]
        connections.opened(first)
        first.cycle = SimpleNamespace()
        connections.heard(first)
        for each in others:
            connections.opened(each)
        for each in crowded:
            connections.closed(each)
        return crowded

    assert [each.ends for each in asyncio.run(crowd())] == [[], ["abort"], ["abort"], ["abort"], []]
    assert len(caplog.records) == 1


def test_beyond_the_limit_who_reads_nothing_goes_before_the_newest() -> None:
    async def crowd() -> list[Connection]:
        connections = Connections(2, 3600, 3600)
        crowded = [Connection() for _ in range(3)]
        for each in crowded[:2]:
            connections.opened(each)
            each.cycle = SimpleNamespace()
            connections.heard(each)
        crowded[1].unread = 1
        connections.written(crowded[1])
        connections.opened(crowded[2])
        for each in crowded:
            connections.closed(each)
        return crowded

    assert [each.ends for each in asyncio.run(crowd())] == [[], ["abort"], []]


def test_answers_that_stay_unread_end_the_connection() -> None:
    async def wait() -> list[Connection]:
        connections = Connections(9, 3600, 0.01)
        over = asyncio.get_running_loop().create_future()
        reads, stays = crowded = [Connection(), Connection()]
        for each in crowded:
            connections.opened(each)
            each.unread = 1
            connections.written(each)
        reads.unread = 0
        stays.transport.abort = lambda: over.set_result(None)
        await asyncio.wait_for(over, 30)
        for each in crowded:
            connections.closed(each)
        return crowded

    assert asyncio.run(wait())[0].ends == []


def received(connection: socket.socket) -> bytes:
    """All until the gateway ends the connection."""
    came = b""
    while chunk := connection.recv(65536):
        came += chunk
    return came


def test_headers_without_end_are_not_kept() -> None:
    with serving() as (_, triton), gateway(triton) as url, connected(url) as connection:
        connection.sendall(BEGUN)
        connection.settimeout(0.05)
        came = b""

        def is_refused() -> bool:
            nonlocal came
            with contextlib.suppress(TimeoutError, ConnectionError):
                came += connection.recv(4096)
            with contextlib.suppress(OSError):
                connection.sendall(b"X-Long: " + b"x" * 8192 + b"\r\n")
            return b"\r\n\r\n" in came

        until(is_refused)
        assert came.startswith(b"HTTP/1.1 431")


def test_an_early_answer_outlives_a_slow_upload(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(b"POST /nonesuch HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n")
        for _ in range(3):
            with connected(url) as another:  # which is ended after the time for headers
                assert another.recv(1) == b""
            connection.sendall(b"x")
        connection.sendall(WHOLE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        came = received(connection)
    assert re.findall(rb"HTTP/1.1 (\d+)", came) == [b"404", b"200"]


def unread(connection: socket.socket) -> Callable[[], bool]:
    """Asks, reads nothing, and tells whether the gateway has ended the connection."""
    connection.setblocking(False)
    # So long that one read of the gateway's has less of them than may be asked in advance.
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 16384 + b"\r\n\r\n"
    rest = b""

    def is_over() -> bool:
        nonlocal rest
        try:
            while True:
                rest = (rest or request)[connection.send(rest or request) :]
        except BlockingIOError:
            return False
        except OSError:
            return True

    return is_over


def test_who_only_asks_is_given_up() -> None:
    """And does not keep a gateway that is to stop."""
    with contextlib.ExitStack() as kept, serving() as (_, triton), gateway(triton, "--body-timeout", "0.5") as url:
        is_over = unread(kept.enter_context(connected(url)))
        until(is_over)
        assert httpx.get(url + "/healthz").status_code == 200
        stays = unread(kept.enter_context(connected(url)))
        stays()


def test_requests_in_advance_have_a_limit(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(WHOLE * 100)
        came = received(connection)
    assert 33 <= came.count(b"HTTP/1.1 200") < 100
    assert came.count(b"connection: close") == came.count(b"HTTP/1.1 ") - came.count(b"HTTP/1.1 200") + 1 == 1


def test_strangers_do_not_fill_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    upgrade = WHOLE.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n")
    with serving() as (_, triton), gateway(triton) as url:
        with connected(url) as connection:
            connection.sendall(upgrade)
            assert received(connection).startswith(b"HTTP/1.1 200")
        with connected(url) as connection:
            connection.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
            assert received(connection).startswith(b"HTTP/1.1 400")
    assert capfd.readouterr().err == ""


def test_the_limit_leaves_files_for_triton() -> None:
    assert most_connections(Settings()) >= 16


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/models", "/docs", "/nonesuch", "/classify"])
def test_head_is_get_without_the_body(path: str, url: str) -> None:
    head, got = httpx.head(url + path), httpx.get(url + path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.headers["x-content-type-options"] == "nosniff"


def test_head_is_counted_as_what_it_was(url: str) -> None:
    httpx.head(url + "/healthz")
    until(lambda: 'method="HEAD",route="/healthz",status="200"' in httpx.get(url + "/metrics").text)


def test_what_is_allowed_is_told(url: str) -> None:
    told = httpx.options(url + "/classify")
    assert (told.status_code, told.headers["allow"], told.content) == (204, "OPTIONS, POST", b"")
    assert httpx.options(url + "/healthz").headers["allow"] == "GET, HEAD, OPTIONS"
    assert httpx.options(url + "/nonesuch").status_code == 404
    assert httpx.delete(url + "/healthz").headers["allow"] == "GET, HEAD, OPTIONS"
    assert "access-control-allow-origin" not in told.headers


def test_a_bodiless_answer_needs_no_server_that_knows_of_it() -> None:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(make_app(Gateway(None, Settings(model="pets"))))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as session:
            return await session.head("/healthz")

    assert asyncio.run(ask()).content == b""


def test_a_step_is_no_classifier() -> None:
    with serving() as (servicer, triton), gateway(triton, "--model", "pets") as url, Client(triton) as client:
        asked = {"content": b"x", "headers": RAW}
        assert httpx.post(url + "/classify?model=pets", **asked).status_code == 200
        servicer.names.append("preprocess_1")
        servicer.shape = [-1, 3, 224, 224]
        assert httpx.get(url + "/models").json()["models"] == []
        answer = httpx.post(url + "/classify?model=preprocess_1", **asked)
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "ModelNotFound")
        with pytest.raises(ModelNotFound, match="to classes"):
            client.classify(b"x", "preprocess_1")


def test_a_server_that_is_back_is_found_soon() -> None:
    """Between two attempts there is at most so long, and a fifth more by gRPC's jitter."""
    options = dict(channel_options(parse("localhost:8001")))
    longest = 1.2 * options["grpc.max_reconnect_backoff_ms"] + options["grpc.min_reconnect_backoff_ms"]
    assert 0 < longest < 10_000
