"""The client against a server whose behaviour a test chooses."""

import itertools
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from fake_triton import FakeTriton, refuse
from hypothesis import given
from hypothesis import strategies as st

from client import (
    Client,
    ClientError,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    Prediction,
    ServerError,
    ServerUnavailable,
    UnreadableFile,
)
from client.client import map_bounded
from client.errors import BY_STATUS, from_status


def test_predictions_carry_labels_with_colons(fake: tuple[FakeTriton, str]) -> None:
    with Client(fake[1]) as client:
        assert client.classify(b"jpeg") == (Prediction(1, "dog: large", 0.75), Prediction(0, "cat", 0.25))


def test_probabilities_are_unrounded_numbers(fake: tuple[FakeTriton, str]) -> None:
    with Client(fake[1]) as client:
        rows = client.probabilities([b"a", b"b"])
    assert rows.dtype == np.float32
    assert rows.tolist() == [[0.25, 0.75]] * 2


def test_unavailable_is_tried_again_and_then_answered(fake: tuple[FakeTriton, str]) -> None:
    servicer, url = fake
    servicer.behave = refuse(grpc.StatusCode.UNAVAILABLE, times=2)
    with Client(url, retries=2) as client:
        assert client.classify(b"jpeg")
    assert servicer.calls == 3


def test_retries_are_bounded(fake: tuple[FakeTriton, str]) -> None:
    servicer, url = fake
    servicer.behave = refuse(grpc.StatusCode.UNAVAILABLE)
    with Client(url, retries=2) as client, pytest.raises(ServerUnavailable, match="is unavailable: no"):
        client.classify(b"jpeg")
    assert servicer.calls == 3


def test_model_that_is_being_unloaded_is_unavailable(fake: tuple[FakeTriton, str]) -> None:
    """So a server that drains before it stops costs a retry, not a failure."""
    servicer, url = fake

    def behave(call: int, _: Any, context: grpc.ServicerContext) -> None:
        if call == 1:
            context.abort(grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'pets' has no available versions")

    servicer.behave = behave
    with Client(url) as client:
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
    status: grpc.StatusCode, error: type[ClientError], fake: tuple[FakeTriton, str]
) -> None:
    servicer, url = fake
    servicer.behave = refuse(status)
    with Client(url) as client, pytest.raises(error):
        client.classify(b"jpeg")
    assert servicer.calls == 1


def test_timeout_bounds_the_whole_call(fake: tuple[FakeTriton, str]) -> None:
    servicer, url = fake
    released = threading.Event()
    servicer.behave = lambda *_: released.wait(20) and None
    with Client(url, timeout=0.3) as client, pytest.raises(DeadlineExceeded, match=r"did not answer within 0\.3 s"):
        client.classify(b"jpeg", "pets")
    released.set()


def test_no_server_is_unavailable() -> None:
    with Client("127.0.0.1:1", retries=1) as client, pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:1"):
        client.models()


@pytest.mark.parametrize(("names", "message"), [(["a", "b"], "are: a, b"), ([], "are: none")])
def test_a_model_must_be_named_where_there_is_not_just_one(
    names: list[str], message: str, fake: tuple[FakeTriton, str]
) -> None:
    servicer, url = fake
    servicer.names = names
    with Client(url) as client, pytest.raises(ModelNotFound, match=message):
        client.classify(b"jpeg")


def test_unknown_model(fake: tuple[FakeTriton, str]) -> None:
    with Client(fake[1]) as client, pytest.raises(ModelNotFound, match="unknown model cars"):
        client.classify(b"jpeg", "cars")


def test_batches_beyond_the_models_are_refused_before_they_are_sent(fake: tuple[FakeTriton, str]) -> None:
    servicer, url = fake
    with Client(url) as client:
        assert len(client.classify_batch([b"x"] * 4)) == 4
        with pytest.raises(InvalidInput, match="at most 4 images a request, not 5"):
            client.classify_batch([b"x"] * 5)
        with pytest.raises(InvalidInput, match="no images"):
            client.classify_batch([])
    assert servicer.calls == 1


def test_many_keep_their_order_and_their_own_errors(fake: tuple[FakeTriton, str], tmp_path: Path) -> None:
    servicer, url = fake

    def behave(_: int, request: Any, context: grpc.ServicerContext) -> None:
        time.sleep(0.02)  # so that requests do meet
        if b"bad" in request.raw_input_contents[0]:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "bad")

    servicer.behave = behave
    files = []
    for i in range(20):
        files.append(tmp_path / f"{i}.jpg")
        if i != 7:
            files[-1].write_bytes(b"bad" if i % 5 == 0 else b"good")
    with Client(url) as client:
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
    classes = [ServerUnavailable, DeadlineExceeded, ModelNotFound, InvalidInput, UnreadableFile, ServerError]
    codes = [error.exit_code for error in classes]
    assert len(set(codes)) == len(codes)
    assert not {0, 2, 130} & set(codes)


@pytest.mark.parametrize("keywords", [{"timeout": 0}, {"retries": -1}])
def test_impossible_settings(keywords: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="timeout must be positive"):
        Client(**keywords)
