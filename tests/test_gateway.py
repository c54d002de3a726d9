"""The web service before Triton."""

import asyncio
import base64
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import trustme
from fake_triton import Behaviour, FakeTriton, refuse, serving
from gateways import gateway
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import started
from prometheus_client.parser import text_string_to_metric_families
from waiting import until

from builder.data.images import SAMPLES
from builder.types import Endpoints
from client import Client
from client.gateway.app import Gateway, make_app
from client.gateway.settings import Settings
from client.types import ModelInfo, TensorInfo

PHOTO = SAMPLES / "coffee.jpg"
RAW = {"content-type": "image/jpeg"}
Fake = tuple[FakeTriton, str]
ROUTE = "/classify"


def as_json(image: bytes) -> dict[str, Any]:
    return {"json": {"image": base64.b64encode(image).decode()}}


BODIES: dict[str, Callable[[bytes], dict[str, Any]]] = {
    "json": as_json,
    "data URL": lambda image: {"json": {"image": "data:image/jpeg;base64," + base64.b64encode(image).decode()}},
    "form": lambda image: {"files": {"image": ("x.jpg", image)}},
    "form of another field": lambda image: {"files": {"file": ("x.jpg", image)}},
    "raw": lambda image: {"content": image, "headers": RAW},
    "octets": lambda image: {"content": image, "headers": {"content-type": "application/octet-stream"}},
    "chunks": lambda image: {"content": iter([image[:9], image[9:]]), "headers": RAW},
}


@pytest.fixture(scope="module")
def triton() -> Iterator[Fake]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def url(triton: Fake) -> Iterator[str]:
    """A gateway before the fake, shared by the tests that need no options of their own."""
    with gateway(triton[1], "--max-bytes", "200000", "--timeout", "1", "--retries", "0") as address:
        yield address


@pytest.fixture
def behave(triton: Fake) -> Iterator[Callable[[Behaviour], None]]:
    """Sets the fake's behaviour for one test."""
    yield lambda behaviour: setattr(triton[0], "behave", behaviour)
    triton[0].behave = lambda *_: None


@pytest.mark.parametrize("body", BODIES)
def test_the_articles_answer_whatever_the_body(body: str, url: str) -> None:
    answer = httpx.post(url + ROUTE, **BODIES[body](b"jpeg bytes"))
    assert answer.status_code == 200
    assert answer.json() == {
        "predictions": [
            {"class": 1, "label": "dog: large", "probability": 0.75},
            {"class": 0, "label": "cat", "probability": 0.25},
        ]
    }
    assert re.search(r"triton;dur=[\d.]+, total;dur=[\d.]+", answer.headers["server-timing"])


@pytest.mark.parametrize("body", BODIES)
def test_image_arrives_as_it_was_sent(body: str, url: str, behave: Any) -> None:
    image = bytes(range(256)) * 20
    arrived: list[bytes] = []
    behave(lambda _, request, __: arrived.append(request.raw_input_contents[0][4:]))
    assert httpx.post(url + ROUTE, **BODIES[body](image)).status_code == 200
    assert arrived == [image]


BAD = {
    "no content type": ({"content": b"x"}, 415),
    "text": ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415),
    "an empty body": ({"content": b"", "headers": RAW}, 400),
    "bad JSON": ({"content": b"{", "headers": {"content-type": "application/json"}}, 400),
    "JSON that nests": ({"content": b"[" * 50000, "headers": {"content-type": "application/json"}}, 400),
    "JSON without an image": ({"json": {"picture": "x"}}, 400),
    "JSON of another shape": ({"json": [1]}, 400),
    "an image that is a number": ({"json": {"image": 5}}, 400),
    "bad base64": ({"json": {"image": "*"}}, 400),
    "empty base64": ({"json": {"image": ""}}, 400),
    "a form without a file": ({"data": {"a": "b"}, "files": {}}, 415),
    "a form with two files": ({"files": [("a", b"1"), ("b", b"2")]}, 400),
    "a form with text alone": ({"files": {"image": (None, b"text")}}, 400),
    "a broken form": ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=y"}}, 400),
    "a form without a boundary": ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
    "too many bytes": ({"content": b"x" * 200_001, "headers": RAW}, 413),
    "too many bytes in chunks": ({"content": iter([b"x" * 100_000] * 3), "headers": RAW}, 413),
    "too many bytes in base64": (as_json(b"x" * 200_001), 413),
    "too many bytes in a form": ({"files": {"image": b"x" * 200_001}}, 413),
    "no classes": ({"content": b"x", "headers": RAW, "params": {"top": 0}}, 400),
    "classes in words": ({"content": b"x", "headers": RAW, "params": {"top": "all"}}, 400),
    "an unknown model": ({"content": b"x", "headers": RAW, "params": {"model": "cars"}}, 404),
}


@pytest.mark.parametrize("case", BAD)
def test_what_callers_do_wrong(case: str, url: str) -> None:
    request, status = BAD[case]
    answer = httpx.post(url + ROUTE, **request)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"type", "message"}
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("code", "message", "status"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "not an image", 400),
        (grpc.StatusCode.INVALID_ARGUMENT, "the image has 9 bytes; at most 8 are accepted", 413),
        (grpc.StatusCode.INVALID_ARGUMENT, "the image is 9x9; at most 8 pixels are accepted", 413),
        (grpc.StatusCode.NOT_FOUND, "unknown model", 404),
        (grpc.StatusCode.INTERNAL, "broke", 502),
        (grpc.StatusCode.UNAUTHENTICATED, "no key", 502),
        (grpc.StatusCode.UNAVAILABLE, "busy", 503),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "late", 504),
    ],
)
def test_what_triton_answers(code: grpc.StatusCode, message: str, status: int, url: str, behave: Any) -> None:
    behave(lambda _, __, context: context.abort(code, message))
    answer = httpx.post(url + ROUTE, content=b"x", headers=RAW)
    assert answer.status_code == status
    assert ("retry-after" in answer.headers) == (status == 503)


def test_triton_that_hangs_is_given_up(url: str, behave: Any) -> None:
    released = threading.Event()
    behave(lambda *_: released.wait(20) and None)
    started = time.monotonic()
    assert httpx.post(url + ROUTE, content=b"x", headers=RAW, timeout=20).status_code == 504
    assert time.monotonic() - started < 15
    released.set()


def test_other_paths_and_methods(url: str) -> None:
    assert httpx.get(url + "/nonesuch").status_code == 404
    assert httpx.get(url + ROUTE).status_code == 405
    assert set(httpx.get(url + "/nonesuch").json()) == {"error"}


def test_beyond_the_queue_callers_are_sent_away(triton: Fake, behave: Any) -> None:
    released, servicer = threading.Event(), triton[0]
    behave(lambda *_: released.wait(30) and None)
    servicer.most_at_once = 0
    with gateway(triton[1], "--concurrency", "2", "--queue", "1") as url, ThreadPoolExecutor(3) as pool:
        ask = {"content": b"x", "headers": RAW, "timeout": 40}
        first = [pool.submit(httpx.post, url + ROUTE, **ask) for _ in range(3)]
        until(lambda: admitted(url) == 3 and servicer.at_once == 2)  # two are with the server, and one waits
        refused = httpx.post(url + ROUTE, **ask)
        released.set()
        assert [future.result(60).status_code for future in first] == [200] * 3
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert servicer.most_at_once == 2


def admitted(url: str) -> float:
    return figures(url)[("gateway_admitted", ())]


def figures(url: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(httpx.get(url + "/metrics").text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_count_requests_by_route_and_status(url: str) -> None:
    def counts() -> tuple[float, float, float]:
        found = figures(url)
        labels = (("method", "POST"), ("route", ROUTE))
        return (
            found.get(("gateway_requests_total", (*labels, ("status", "200"))), 0),
            found.get(("gateway_requests_total", (*labels, ("status", "415"))), 0),
            found.get(("gateway_image_bytes_total", ()), 0),
        )

    def counted() -> list[float]:
        return [now - then for now, then in zip(counts(), before, strict=True)]

    before = counts()
    for _ in range(3):
        httpx.post(url + ROUTE, content=b"12345", headers=RAW)
    httpx.post(url + ROUTE, content=b"x")
    until(lambda: counted() == [3, 1, 15], told=counted)  # an answer is counted after it is given


def test_body_that_dawdles_is_given_up(triton: Fake) -> None:
    with gateway(triton[1], "--body-timeout", "0.3") as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(
                b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 9\r\n\r\nx"
            )
            assert connection.recv(4096).startswith(b"HTTP/1.1 408")


def test_caller_who_hangs_up_cancels_the_request(triton: Fake, behave: Any) -> None:
    asked, gone = threading.Event(), threading.Event()

    def hang(_: int, __: Any, context: grpc.ServicerContext) -> None:
        context.add_callback(gone.set)
        asked.set()
        gone.wait(60)

    behave(hang)
    with gateway(triton[1], "--timeout", "300") as url:  # so that it is not the gateway who loses patience
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 1\r\n\r\nx"
            connection.sendall(head)
            assert asked.wait(20)
        assert gone.wait(30)


def test_stop_answers_what_is_in_flight(triton: Fake, behave: Any) -> None:
    started, released = threading.Event(), threading.Event()

    def hang(*_: Any) -> None:
        started.set()
        released.wait(30)

    behave(hang)
    with ThreadPoolExecutor(2) as pool, gateway(triton[1], "--drain", "1") as url:
        answer = pool.submit(httpx.post, url + ROUTE, content=b"x", headers=RAW, timeout=40)
        assert started.wait(20)

        stopping = pool.submit(until, lambda: not is_ready(url))
        stopping.add_done_callback(lambda _: released.set())  # it said that it stops, and still waits
    assert answer.result(60).status_code == 200
    assert stopping.result(60)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(url + "/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_it_waits_for_triton() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    with gateway(f"127.0.0.1:{port}", "--retries", "0") as url:
        assert httpx.get(url + "/healthz").status_code == 200
        assert httpx.get(url + "/readyz").status_code == 503
        assert httpx.post(url + ROUTE, content=b"x", headers=RAW).status_code == 503
        with serving(port=port):
            until(lambda: is_ready(url))
            assert httpx.post(url + ROUTE, content=b"x", headers=RAW).status_code == 200


def test_several_models_have_to_be_told_apart() -> None:
    with serving() as (servicer, triton):
        servicer.names = ["cars", "pets"]
        with gateway(triton) as url:
            unnamed = httpx.post(url + ROUTE, content=b"x", headers=RAW)
            assert unnamed.status_code == 400
            assert "cars, pets" in unnamed.json()["error"]["message"]
            assert httpx.post(url + ROUTE, content=b"x", headers=RAW, params={"model": "cars"}).status_code == 200
            tasks = {"cars": "classification", "pets": "classification"}
            told = {"models": ["cars", "pets"], "default": None, "tasks": tasks}
            routes = {"cars": "/classify", "pets": "/classify"}
            assert httpx.get(url + "/models").json() == told | {"routes": routes}
        with gateway(triton, "--model", "pets") as url:
            assert httpx.post(url + ROUTE, content=b"x", headers=RAW).status_code == 200
            assert httpx.get(url + "/models").json()["default"] == "pets"


def test_key_and_tls(triton: Fake, tmp_path: Path) -> None:
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    own.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    (tmp_path / "secret").write_text("s3cret\n")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    options = [
        "--api-key-file",
        tmp_path / "secret",
        "--tls-cert",
        tmp_path / "cert.pem",
        "--tls-key",
        tmp_path / "key.pem",
    ]
    with gateway(triton[1], *options) as url, httpx.Client(base_url=url, verify=trusting) as session:
        assert url.startswith("https://")
        for headers in ({}, {"x-api-key": "wrong"}, {"authorization": "Basic s3cret"}, {"x-api-key": "é".encode()}):
            refused = session.post(ROUTE, content=b"x", headers=RAW | headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
        assert session.get("/models").status_code == 401
        for headers in ({"x-api-key": "s3cret"}, {"authorization": "Bearer s3cret"}):
            assert session.post(ROUTE, content=b"x", headers=RAW | headers).status_code == 200
        assert session.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--api-key-file", "missing"], 7, "missing: No such file"),
        (["--tls-cert", "x"], 2, "both --tls-cert and --tls-key"),
        (["--tls-cert", __file__, "--tls-key", __file__], 7, "no PEM certificate"),
        (["--host", "203.0.113.1"], 12, "choose another --host or --port"),
        (["--url", "ftp://x"], 2, "not an address"),
    ],
)
def test_what_the_operator_does_wrong(options: list[str], code: int, message: str) -> None:
    command = [sys.executable, "-m", "client.cli", "gateway", "--port", "0", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_openness_beyond_loopback_is_said(triton: Fake) -> None:
    command = [sys.executable, "-m", "client.cli", "gateway", "--url", triton[1], "--host", "0.0.0.0", "--port", "0"]
    with started(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "anybody who reaches 0.0.0.0" in process.stderr.readline()


def test_openapi_tells_the_three_bodies(url: str) -> None:
    operation = httpx.get(url + "/openapi.json").json()["paths"][ROUTE]["post"]
    assert {"application/json", "multipart/form-data", "image/*"} <= set(operation["requestBody"]["content"])
    assert {"400", "413", "415", "429", "503", "504"} <= set(operation["responses"])


def test_pages_ask_nothing_of_other_hosts(url: str) -> None:
    for path in ("/", "/docs", "/static/page.js", "/static/page.css", "/static/docs.js"):
        answer = httpx.get(url + path)
        assert answer.status_code == 200
        assert not re.search(r"(src|href|url|import|fetch)\W{1,3}(https?:)?//", answer.text)
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_answers_are_those_of_the_real_server(server: Endpoints, client: Client) -> None:
    expected = client.classify(PHOTO, "onnx_model")
    with gateway(server.grpc, "--model", "onnx_model") as url:
        for body in ("json", "form", "raw"):
            answer = httpx.post(url + ROUTE, **BODIES[body](PHOTO.read_bytes())).json()["predictions"]
            assert [(p["class"], p["label"], p["probability"]) for p in answer] == [
                (p.class_id, p.label, p.probability) for p in expected
            ]
        large = httpx.post(url + ROUTE, params={"model": "unlabelled"}, **BODIES["raw"](b"x" * 100_001))
        assert large.status_code == 413  # the recipe's own limit


class Broken:
    """A client with a mistake in it."""

    async def model(self, name: str) -> ModelInfo:
        image, scores = TensorInfo("IMAGE", "BYTES", (-1, 1)), TensorInfo("PROBABILITIES", "FP32", (-1, 2))
        return ModelInfo(name, ("1",), "ensemble", 8, (image,), (scores,))

    async def classify(self, *_: Any) -> Any:
        raise RuntimeError("secret detail")

    async def close(self) -> None: ...


def ask_in_process(content: bytes, kind: str, client: Any = None) -> httpx.Response:
    """Straight into the application, without a socket."""
    app = make_app(Gateway(client or Broken(), Settings(model="pets", max_bytes=1000)))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as session:
            return await session.post(ROUTE, content=content, headers={"content-type": kind})

    return asyncio.run(ask())


def test_mistakes_of_its_own_are_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    answer = ask_in_process(b"image", "image/png")
    assert answer.status_code == 500
    assert "secret detail" not in answer.text
    name = re.search(r"under (\w+)", answer.json()["error"]["message"])
    assert name
    assert name[1] in caplog.text
    assert "secret detail" in caplog.text


VALUES = st.none() | st.booleans() | st.integers() | st.text()
JSON = st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
KINDS = st.sampled_from(["application/json", "multipart/form-data; boundary=b", "multipart/form-data", "x/y"])
FORM = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
BODY = st.binary(max_size=2000) | JSON.map(lambda value: json.dumps(value).encode()) | st.binary().map(FORM.__add__)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60, deadline=None)
@given(content=BODY, kind=KINDS)
def test_no_body_is_the_gateways_mistake(content: bytes, kind: str) -> None:
    class Answers(Broken):
        async def classify(self, *_: Any) -> Any:
            return ()

    assert ask_in_process(content, kind, Answers()).status_code in (200, 400, 413, 415)


def test_unavailable_names_no_more_than_it_should(behave: Any, url: str) -> None:
    behave(refuse(grpc.StatusCode.UNAVAILABLE))
    answer = httpx.post(url + ROUTE, content=b"x", headers=RAW)
    assert answer.json()["error"]["type"] == "ServerUnavailable"
