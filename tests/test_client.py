"""Both clients against a server whose behaviour a test chooses, and against the real one over HTTP and gRPC."""

import asyncio
import inspect
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import trustme
from aiohttp import web
from connecting import BOTH, Connect
from fake_triton import FakeTriton, refuse, serving
from hypothesis import given
from hypothesis import strategies as st

from builder.data.images import SAMPLES
from builder.types import Endpoints
from client import (
    AsyncClient,
    Cancelled,
    Client,
    ClientError,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    NotAllowed,
    Prediction,
    ServerError,
    ServerUnavailable,
    Tls,
    UnreadableFile,
)
from client.client import map_bounded
from client.errors import BY_HTTP_STATUS, BY_STATUS, from_status


@pytest.fixture(params=BOTH.values(), ids=BOTH)
def connect(request: pytest.FixtureRequest) -> Connect:
    """Makes a client; either kind, with the methods of Client."""
    kind: Connect = request.param
    return kind


def test_predictions_carry_labels_with_colons(connect: Connect, fake: tuple[FakeTriton, str]) -> None:
    with connect(fake[1]) as client:
        assert client.classify(b"jpeg") == (Prediction(1, "dog: large", 0.75), Prediction(0, "cat", 0.25))


def test_probabilities_are_unrounded_numbers(connect: Connect, fake: tuple[FakeTriton, str]) -> None:
    with connect(fake[1]) as client:
        rows = client.probabilities([b"a", b"b"])
    assert rows.dtype == np.float32
    assert rows.tolist() == [[0.25, 0.75]] * 2


def test_unavailable_is_tried_again_and_then_answered(connect: Connect, fake: tuple[FakeTriton, str]) -> None:
    servicer, url = fake
    servicer.behave = refuse(grpc.StatusCode.UNAVAILABLE, times=2)
    with connect(url, retries=2) as client:
        assert client.classify(b"jpeg")
    assert servicer.calls == 3


def test_retries_are_bounded(connect: Connect, fake: tuple[FakeTriton, str]) -> None:
    servicer, url = fake
    servicer.behave = refuse(grpc.StatusCode.UNAVAILABLE)
    with connect(url, retries=2) as client, pytest.raises(ServerUnavailable, match="is unavailable: no"):
        client.classify(b"jpeg")
    assert servicer.calls == 3


def test_model_that_is_being_unloaded_is_unavailable(connect: Connect, fake: tuple[FakeTriton, str]) -> None:
    """So a server that drains before it stops costs a retry, not a failure."""
    servicer, url = fake

    def behave(call: int, _: Any, context: grpc.ServicerContext) -> None:
        if call == 1:
            context.abort(grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'pets' has no available versions")

    servicer.behave = behave
    with connect(url) as client:
        assert client.classify(b"jpeg")
    assert servicer.calls == 2


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidInput),
        (grpc.StatusCode.INTERNAL, ServerError),
        (grpc.StatusCode.NOT_FOUND, ModelNotFound),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, InvalidInput),
    ],
)
def test_nothing_else_is_tried_again(
    connect: Connect, status: grpc.StatusCode, error: type[ClientError], fake: tuple[FakeTriton, str]
) -> None:
    servicer, url = fake
    servicer.behave = refuse(status)
    with connect(url) as client, pytest.raises(error):
        client.classify(b"jpeg")
    assert servicer.calls == 1


def test_timeout_bounds_the_whole_call(connect: Connect, fake: tuple[FakeTriton, str]) -> None:
    servicer, url = fake
    released = threading.Event()
    servicer.behave = lambda *_: released.wait(20) and None
    with connect(url, timeout=0.3) as client, pytest.raises(DeadlineExceeded, match=r"did not answer within 0\.3 s"):
        client.classify(b"jpeg", "pets")
    released.set()


def test_no_server_is_unavailable(connect: Connect) -> None:
    with connect("127.0.0.1:1", retries=1) as client, pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:1"):
        client.models()


@pytest.mark.parametrize(("names", "message"), [(["a", "b"], "are: a, b"), ([], "are: none")])
def test_a_model_must_be_named_where_there_is_not_just_one(
    connect: Connect, names: list[str], message: str, fake: tuple[FakeTriton, str]
) -> None:
    servicer, url = fake
    servicer.names = names
    with connect(url) as client, pytest.raises(ModelNotFound, match=message):
        client.classify(b"jpeg")


def test_unknown_model(connect: Connect, fake: tuple[FakeTriton, str]) -> None:
    with connect(fake[1]) as client, pytest.raises(ModelNotFound, match="unknown model cars"):
        client.classify(b"jpeg", "cars")


def test_batches_beyond_the_models_are_refused_before_they_are_sent(
    connect: Connect, fake: tuple[FakeTriton, str]
) -> None:
    servicer, url = fake
    with connect(url) as client:
        assert len(client.classify_batch([b"x"] * 4)) == 4
        with pytest.raises(InvalidInput, match="at most 4 images a request, not 5"):
            client.classify_batch([b"x"] * 5)
        with pytest.raises(InvalidInput, match="no images"):
            client.classify_batch([])
    assert servicer.calls == 1


def test_many_keep_their_order_and_their_own_errors(
    connect: Connect, fake: tuple[FakeTriton, str], tmp_path: Path
) -> None:
    servicer, url = fake
    met = threading.Event()

    def behave(call: int, request: Any, context: grpc.ServicerContext) -> None:
        if call > 1:
            met.set()
        assert met.wait(20)  # two requests, at least, are there at once
        if b"bad" in request.raw_input_contents[0]:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "bad")

    servicer.behave = behave
    files = []
    for i in range(20):
        files.append(tmp_path / f"{i}.jpg")
        if i != 7:
            files[-1].write_bytes(b"bad" if i % 5 == 0 else b"good")
    with connect(url) as client:
        results = list(client.classify_many(files, concurrency=4, batch_size=2))
    assert [result.image for result in results] == files
    assert [i for i, result in enumerate(results) if isinstance(result.error, UnreadableFile)] == [7]
    assert [i for i, result in enumerate(results) if type(result.error) is InvalidInput] == [0, 5, 10, 15]
    assert 1 < servicer.most_at_once <= 4


def test_endless_images_take_bounded_memory(fake: tuple[FakeTriton, str]) -> None:
    taken = itertools.count()
    with Client(fake[1]) as client:
        results = client.classify_many((b"%d" % next(taken) for _ in itertools.count()), concurrency=3, batch_size=2)
        assert [result.image for result in itertools.islice(results, 50)] == [b"%d" % i for i in range(50)]
        results.close()  # type: ignore[attr-defined]
    assert next(taken) <= 50 + 2 * 2 * 3


@given(items=st.lists(st.integers(), max_size=40), concurrency=st.integers(1, 8))
def test_map_bounded_is_map(items: list[int], concurrency: int) -> None:
    def slow(item: int) -> int:
        time.sleep(0.0001 * (item % 3))
        return item * 2

    assert list(map_bounded(slow, items, concurrency)) == [item * 2 for item in items]  # type: ignore[type-var]


def test_every_grpc_status_has_its_error() -> None:
    assert set(BY_STATUS) == {status.name for status in grpc.StatusCode}
    for name, error in BY_STATUS.items():
        assert type(from_status(f"StatusCode.{name}", "x")) is error


def test_exit_codes_tell_errors_apart() -> None:
    classes = [ClientError, *ClientError.__subclasses__(), UnreadableFile]
    codes = [error.exit_code for error in classes]
    assert len(set(codes)) == len(codes)
    assert not {0, 2, 130} & set(codes)


@pytest.mark.parametrize("keywords", [{"timeout": 0}, {"retries": -1}])
def test_impossible_settings(keywords: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="timeout must be positive"):
        Client(**keywords)


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(f).parameters) for name, f in found if not name.startswith("_")}

    assert set(methods(Client)) - set(methods(AsyncClient)) == {"cancel"}  # a task has its own
    assert all(methods(Client)[name] == parameters for name, parameters in methods(AsyncClient).items())
    assert list(inspect.signature(Client).parameters) == list(inspect.signature(AsyncClient).parameters)


def test_one_refused_image_does_not_spoil_the_others_of_its_request(
    connect: Connect, fake: tuple[FakeTriton, str]
) -> None:
    servicer, url = fake

    def behave(_: int, request: Any, context: grpc.ServicerContext) -> None:
        if b"bad" in request.raw_input_contents[0]:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "bad")

    servicer.behave = behave
    with connect(url) as client:
        results = list(client.classify_many([b"1", b"bad", b"3", b"4", b"5"], concurrency=1))
    assert [bool(result.error) for result in results] == [False, True, False, False, False]
    assert servicer.calls == 1 + 4 + 1  # four together, each of them alone, and the fifth


def test_outage_is_not_asked_again_for_each_image(connect: Connect, fake: tuple[FakeTriton, str]) -> None:
    servicer, url = fake
    servicer.behave = refuse(grpc.StatusCode.UNAVAILABLE)
    with connect(url, retries=0) as client:
        results = list(client.classify_many([b"1", b"2", b"3"]))
    assert [type(result.error) for result in results] == [ServerUnavailable] * 3
    assert servicer.calls == 1


@contextmanager
def hanging(servicer: FakeTriton) -> Iterator[threading.Event]:
    """Every inference hangs until its caller is gone, which the event tells."""
    started, gone = threading.Event(), threading.Event()

    def behave(_: int, __: Any, context: grpc.ServicerContext) -> None:
        context.add_callback(gone.set)
        started.set()
        gone.wait(20)

    servicer.behave = behave
    servicer.started = started  # type: ignore[attr-defined]
    yield gone
    gone.set()


def test_cancelled_task_cancels_on_the_server(fake: tuple[FakeTriton, str]) -> None:
    servicer, url = fake

    async def ask(gone: threading.Event) -> None:
        async with AsyncClient(url) as client:
            task = asyncio.create_task(client.classify(b"jpeg", "pets"))
            await asyncio.to_thread(servicer.started.wait, 20)  # type: ignore[attr-defined]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(gone.wait, 10)

    with hanging(servicer) as gone:
        asyncio.run(ask(gone))


def test_cancel_ends_what_other_threads_wait_for(fake: tuple[FakeTriton, str]) -> None:
    servicer, url = fake
    with hanging(servicer) as gone, Client(url) as client:

        def cancel() -> None:
            servicer.started.wait(20)  # type: ignore[attr-defined]
            client.cancel()

        threading.Thread(target=cancel).start()
        with pytest.raises(Cancelled):
            client.classify(b"jpeg", "pets")
        assert gone.wait(10)
        servicer.behave = lambda *_: None
        assert client.classify(b"jpeg", "pets")  # it can be used again


def test_iterator_that_is_closed_cancels_the_rest(fake: tuple[FakeTriton, str]) -> None:
    servicer, url = fake
    begun, release = threading.Event(), threading.Event()

    def behave(_: int, request: Any, context: grpc.ServicerContext) -> None:
        if b"slow" in request.raw_input_contents[0]:
            context.add_callback(release.set)
            begun.set()
            release.wait(30)

    servicer.behave = behave
    with Client(url) as client:
        results = client.classify_many([b"quick", *[b"slow"] * 9], concurrency=2, batch_size=1)
        assert next(results).predictions
        assert begun.wait(10)
        started = time.monotonic()
        results.close()  # type: ignore[attr-defined]
        assert time.monotonic() - started < 15
    assert release.wait(10)


def test_headers_reach_the_server(connect: Connect, fake: tuple[FakeTriton, str]) -> None:
    servicer, url = fake

    def behave(_: int, __: Any, context: grpc.ServicerContext) -> None:
        if ("x-key", "secret") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no key")

    servicer.behave = behave
    with connect(url, headers={"X-Key": "secret"}) as client:
        assert client.classify(b"jpeg")
    with connect(url) as client, pytest.raises(NotAllowed, match="no key"):
        client.classify(b"jpeg")


def test_restricted_endpoint_is_not_asked_again(connect: Connect, fake: tuple[FakeTriton, str]) -> None:
    servicer, url = fake

    def behave(_: int, __: Any, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNAVAILABLE, "This protocol is restricted, expecting header 'x'")

    servicer.behave = behave
    with connect(url) as client, pytest.raises(NotAllowed, match="expecting header"):
        client.classify(b"jpeg")
    assert servicer.calls == 1


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> Tls:
    """What a client needs that is let in: the authority, and a certificate of its own."""
    own = authority.issue_cert("client@example.org")
    ca, certificate, key = tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem"
    authority.cert_pem.write_to_path(str(ca))
    own.cert_chain_pems[0].write_to_path(str(certificate))
    own.private_key_pem.write_to_path(str(key))
    return Tls(ca, certificate, key)


def test_grpc_over_mutual_tls(connect: Connect, authority: trustme.CA, tls: Tls) -> None:
    own = authority.issue_cert("localhost", "127.0.0.1")
    pair = (own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes())
    credentials = grpc.ssl_server_credentials([pair], authority.cert_pem.bytes(), require_client_auth=True)
    with serving(credentials) as (_, url):
        with connect(f"grpcs://{url}", tls=tls) as client:
            assert client.classify(b"jpeg")
        for settings in ({}, {"tls": Tls(tls.ca)}):  # an unknown authority; no certificate to show
            with connect(f"grpcs://{url}", retries=0, **settings) as client, pytest.raises(ServerUnavailable):
                client.classify(b"jpeg")


@contextmanager
def serving_http(status: int, context: Any = None) -> Iterator[tuple[str, list[Any]]]:
    """An HTTP server that answers everything with one status, and keeps what it was asked."""
    asked: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request)
        return web.json_response({"error": "no"} if status != 200 else [], status=status)

    async def start() -> tuple[web.AppRunner, int]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        return runner, runner.addresses[0][1]

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runner, port = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    try:
        yield f"127.0.0.1:{port}", asked
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def test_https_with_headers(connect: Connect, authority: trustme.CA, tls: Tls) -> None:
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with serving_http(200, context) as (url, asked):
        with connect(f"https://{url}", tls=tls, headers={"X-Key": "secret"}) as client:
            assert client.models() == []
        assert asked[0].headers["x-key"] == "secret"
        with connect(f"https://{url}", retries=0) as client, pytest.raises(ServerUnavailable, match="certificate"):
            client.models()


@pytest.mark.parametrize("status", [int(status) for status in BY_HTTP_STATUS] + [418, 500])
def test_every_http_status_has_its_error(connect: Connect, status: int) -> None:
    with (
        serving_http(status) as (url, asked),
        connect(f"http://{url}", retries=1) as client,
        pytest.raises(ClientError) as caught,
    ):
        client.models()
    expected = BY_HTTP_STATUS.get(str(status), ServerError)
    assert type(caught.value) is expected
    assert len(asked) == (2 if expected is ServerUnavailable else 1)


def test_no_http_server_is_unavailable(connect: Connect) -> None:
    with connect("http://127.0.0.1:1", retries=1) as client, pytest.raises(ServerUnavailable, match="its HTTP port"):
        client.models()


@pytest.mark.parametrize(
    ("url", "message"), [("ftp://host:1", "not an address"), ("http://", "not an address"), ("", "not an address")]
)
def test_impossible_addresses(connect: Connect, url: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        connect(url)


def test_certificates_want_an_encrypted_connection(connect: Connect, tls: Tls) -> None:
    with pytest.raises(InvalidInput, match="is not encrypted"):
        connect("localhost:8001", tls=tls)
    with pytest.raises(UnreadableFile, match="there is no such file"):
        connect("grpcs://localhost:8001", tls=Tls(Path("missing.pem")))


def test_memory_that_is_not_shared_is_done_without(connect: Connect, fake: tuple[FakeTriton, str]) -> None:
    _, url = fake  # which knows nothing of shared memory
    large = b"x" * 1024 * 1024
    with connect(url) as client:
        assert client.classify(large, "pets")
    with connect(url, shared_memory=True) as client, pytest.raises(ServerError, match="does not share memory"):
        client.classify(large, "pets")


@pytest.fixture(params=["grpc", "http"])
def real(request: pytest.FixtureRequest, server: Endpoints) -> str:
    """The real server's address, over gRPC and HTTP."""
    return {"grpc": server.grpc, "http": f"http://{server.http}"}[request.param]


def test_real_server_answers_alike(connect: Connect, real: str, client: Client) -> None:
    photo = SAMPLES / "coffee.jpg"
    with connect(real) as other:
        assert other.ready()
        assert other.ready("torchscript_model")
        assert not other.ready("nonesuch")
        assert other.models() == client.models()
        assert other.classify(photo, "torchscript_model") == client.classify(photo, "torchscript_model")
        np.testing.assert_array_equal(
            other.probabilities([photo], "torchscript_model"), client.probabilities([photo], "torchscript_model")
        )
        with pytest.raises(InvalidInput, match="not an image"):
            other.classify(b"text", "torchscript_model")
        with pytest.raises(ModelNotFound, match="nonesuch"):
            other.classify(photo, "nonesuch")


def test_statistics_count_what_was_asked(connect: Connect, real: str) -> None:
    with connect(real) as client:
        (before,) = client.statistics("unlabelled")
        list(client.classify_many([SAMPLES / "chelsea.jpg"] * 6, "unlabelled", concurrency=1))
        deadline = time.monotonic() + 30
        while True:  # the server counts a request after it has answered it
            (after,) = client.statistics("unlabelled")
            if after.inferences - before.inferences >= 6 or time.monotonic() > deadline:
                break
            time.sleep(0.05)
    assert after.inferences - before.inferences == 6
    assert after.success.count - before.success.count == 2  # requests of four, which the model takes, and two
    assert after.success.ns > before.success.ns


def test_shared_memory_gives_the_same_answers_and_is_given_back(connect: Connect, real: str) -> None:
    def regions() -> set[str]:
        return {path.name for path in Path("/dev/shm").glob("repo-client-held-*")}

    photos = [SAMPLES / "coffee.jpg", SAMPLES / "rocket.jpg"]
    pixels = np.random.default_rng(0).random((8, 3, 32, 32), np.float32)
    there = regions()
    with connect(real, shared_memory=False) as by_value, connect(real, shared_memory=True) as shared:
        name = "torchscript_model_torchscript"
        for size in (8, 1):
            inputs = {by_value.model(name).inputs[0].name: pixels[:size]}
            answers = [client.infer(name, inputs)["OUTPUT__0"] for client in (by_value, shared)]
            np.testing.assert_array_equal(*answers)
        scores = [client.probabilities(photos, "torchscript_model") for client in (by_value, shared)]
        np.testing.assert_array_equal(*scores)
        assert len(regions() - there) == 1  # used again and again
    assert regions() == there


def test_server_that_forgot_the_shared_memory_is_told_again(connect: Connect, server: Endpoints) -> None:
    with connect(server.grpc, shared_memory=True) as client:
        first = client.classify(SAMPLES / "coffee.jpg", "torchscript_model")
        with tritonclient.grpc.InferenceServerClient(server.grpc) as other:
            other.unregister_system_shared_memory()  # as a server that was started anew knows none
        assert client.classify(SAMPLES / "coffee.jpg", "torchscript_model") == first
