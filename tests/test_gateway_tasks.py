"""The web service before models of other tasks than classification."""

import asyncio
import base64
import io
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from fake_tasks import MASK, detector, embedder, palette_png, png_segmenter, segmenter, text_embedder
from fake_triton import FakeTriton, refuse, serving
from gateways import gateway
from PIL import Image

from client import AsyncClient, ServerUnavailable
from client.gateway import asking, models
from client.gateway.answers import accepts_json
from client.gateway.problems import Problem

RAW = {"content-type": "image/jpeg"}
JSON = {"accept": "application/json"}
OWN = palette_png(MASK, [1, 2, 3, 4, 5, 6, 7, 8, 9])


@pytest.fixture(scope="module")
def triton() -> Iterator[tuple[FakeTriton, str]]:
    """A server without a classifier."""
    with serving() as (servicer, address):
        servicer.names = []
        servicer.named = {
            "finder": detector([[1, 2, 30.5, 40], [5, 6, 7, 8]], [0.75, 0.25], [1, 9]),
            "painter": segmenter(),
            "vectors": embedder([0.5, -0.25, 0.125]),
        }
        yield servicer, address


@pytest.fixture(scope="module")
def url(triton: tuple[FakeTriton, str]) -> Iterator[str]:
    with gateway(triton[1], "--retries", "0", "--max-bytes", "1000") as address:
        yield address


def post(url: str, **more: Any) -> httpx.Response:
    return httpx.post(url, **({"content": b"x", "headers": RAW} | more))


def test_gateway_without_a_classifier_is_ready(url: str) -> None:
    assert httpx.get(url + "/readyz").status_code == 200
    assert httpx.get(url + "/models").json() == {
        "models": ["finder", "painter", "vectors"],
        "default": None,
        "tasks": {"finder": "detection", "painter": "segmentation", "vectors": "embedding"},
        "routes": {"finder": "/detect", "painter": "/segment", "vectors": "/embed"},
    }


@pytest.mark.parametrize("model", ["finder", "painter", "vectors"])
def test_model_of_any_task_can_be_the_default_and_makes_it_ready(model: str, triton: Any) -> None:
    with gateway(triton[1], "--model", model) as url:
        assert httpx.get(url + "/readyz").status_code == 200
        assert httpx.get(url + "/models").json()["default"] == model
        assert post(url + "/detect").status_code == 200  # the only one of that task, whatever the default is
        assert post(url + "/classify").status_code == 404


def test_detections_without_the_padding(url: str) -> None:
    answer = post(url + "/detect")
    assert answer.status_code == 200
    assert answer.json() == {
        "detections": [
            {"box": [1, 2, 30.5, 40], "label": "cup", "class": 1, "score": 0.75},
            {"box": [5, 6, 7, 8], "label": "9", "class": 9, "score": 0.25},
        ]
    }
    assert "triton;dur=" in answer.headers["server-timing"]


def test_detections_that_are_probable_enough(url: str) -> None:
    found = post(url + "/detect", params={"threshold": 0.5}).json()["detections"]
    assert [one["label"] for one in found] == ["cup"]
    assert post(url + "/detect", params={"threshold": 0.8}).json() == {"detections": []}
    assert post(url + "/detect", params={"threshold": 2}).status_code == 400


def test_mask_is_a_png_whose_indices_are_classes(url: str) -> None:
    answer = post(url + "/segment")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["vary"] == "Accept"
    assert "triton;dur=" in answer.headers["server-timing"]
    image = Image.open(io.BytesIO(answer.content))
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), MASK)


def test_mask_as_pixels_by_class(url: str) -> None:
    answer = post(url + "/segment", headers=RAW | JSON)
    told = answer.json()
    assert (told["width"], told["height"]) == (4, 2)
    assert [(one["class"], one["label"], one["pixels"]) for one in told["classes"]] == [
        (0, "__background__", 3),
        (2, "spoon", 5),
    ]
    assert "mask" not in told
    with_mask = post(url + "/segment", headers=RAW | JSON, params={"mask": "true"}).json()
    image = Image.open(io.BytesIO(base64.b64decode(with_mask["mask"])))
    shown = {"#" + bytes(pixel).hex() for pixel in np.asarray(image.convert("RGB")).reshape(-1, 3)}
    assert shown == {one["color"] for one in with_mask["classes"]}


def test_model_that_gives_a_png_is_answered_as_one_that_gives_a_tensor(triton: Any, url: str) -> None:
    triton[0].named["coloured"] = png_segmenter(OWN)
    try:
        for headers in (RAW, RAW | JSON):
            given = post(url + "/segment", params={"model": "coloured"}, headers=headers)
            assert given.status_code == 200
            assert given.content == post(url + "/segment", params={"model": "painter"}, headers=headers).content
    finally:
        del triton[0].named["coloured"]


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("", False),
        ("*/*", False),
        ("image/png", False),
        ("image/png, application/json", False),
        ("application/json", True),
        ("application/json, text/plain, */*", True),
        ("application/json;q=0.5, image/*", False),
        ("image/png;q=0.1, Application/JSON; q=0.9", True),
        ("application/json;q=0", False),
        ("application/json;q=much", False),
    ],
)
def test_what_accept_asks_for(accept: str, is_json: bool) -> None:
    assert accepts_json(accept) == is_json


def test_embedding(url: str) -> None:
    assert post(url + "/embed").json() == {"embedding": [0.5, -0.25, 0.125]}


@pytest.mark.parametrize(
    ("route", "model", "words"),
    [
        ("/classify", "finder", "finder is not one of the image classifiers"),
        ("/detect", "painter", "painter is not one of the detectors"),
        ("/segment", "vectors", "vectors is not one of the segmenters"),
        ("/embed", "finder", "finder is not one of the embedding models"),
        ("/embed", "nonesuch", "nonesuch"),
    ],
)
def test_model_of_another_task_is_refused(route: str, model: str, words: str, url: str) -> None:
    answer = post(url + route, params={"model": model})
    assert answer.status_code == 404
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize("route", ["/detect", "/segment", "/embed"])
def test_what_callers_do_wrong_is_told_by_every_route(route: str, url: str) -> None:
    assert post(url + route, content=b"").status_code == 400
    assert post(url + route, content=b"x" * 1001).status_code == 413
    assert post(url + route, headers={}).status_code == 415


@pytest.mark.parametrize("route", ["/detect", "/segment", "/embed"])
def test_what_triton_refuses_is_told_by_every_route(route: str, triton: Any, url: str) -> None:
    triton[0].behave = refuse(grpc.StatusCode.INVALID_ARGUMENT, message="the image is no image")
    try:
        answer = post(url + route)
    finally:
        triton[0].behave = lambda *_: None
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].endswith("the image is no image")


@pytest.mark.parametrize(
    ("route", "model"),
    [
        ("/detect", detector([[float("nan"), 0, 1, 1]], [0.5], [1])),
        ("/embed", embedder([1, float("inf")])),
        ("/segment", png_segmenter(b"no PNG")),
    ],
)
def test_what_is_no_answer_is_the_servers_fault(route: str, model: Any, triton: Any, url: str) -> None:
    name = f"broken {model.task}"
    triton[0].named[name] = model
    try:
        answer = post(url + route, params={"model": name})
    finally:
        del triton[0].named[name]
    assert answer.status_code == 502
    assert name in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("route", "known"),
    [
        ("/classify", "model, top, threshold"),
        ("/detect", "model, threshold"),
        ("/segment", "model, mask"),
        ("/embed", "model"),
    ],
)
def test_query_parameters_that_do_nothing_are_refused(route: str, known: str, url: str) -> None:
    refused = post(url + route, params={"tpo": 3})
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == f"tpo: no such query parameter here; there are: {known}"


@pytest.mark.parametrize("route", ["/models", "/healthz", "/readyz", "/metrics"])
def test_routes_without_parameters_take_none(route: str, url: str) -> None:
    assert httpx.get(url + route).status_code == 200
    refused = httpx.get(url + route, params={"top": 3})
    assert refused.status_code == 400
    assert "top: no such query parameter here; there are none" in refused.text


@pytest.mark.parametrize(
    "status", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED]
)
def test_where_the_server_is_stays_inside(status: grpc.StatusCode, triton: Any, url: str) -> None:
    triton[0].behave = refuse(status, message="no connection to ipv4:10.0.0.1:8001" if "UNAV" in status.name else "no")
    try:
        answers = [post(url + "/detect"), post(url + "/detect", params={"model": "nonesuch"})]
    finally:
        triton[0].behave = lambda *_: None
    for answer in answers:
        assert answer.status_code >= 400
        assert triton[1].rpartition(":")[2] not in answer.text
        assert "10.0.0.1" not in answer.text
    assert "unknown model nonesuch" in answers[1].json()["error"]["message"]


def test_a_server_that_is_not_there_is_named_to_nobody() -> None:
    with gateway("127.0.0.1:1", "--retries", "0") as url:
        answer = post(url + "/detect")
    assert (answer.status_code, answer.json()["error"]["message"]) == (503, "the server is unavailable")


def test_openapi_tells_every_routes_answers(url: str) -> None:
    paths = httpx.get(url + "/openapi.json").json()["paths"]
    for route in ("/detect", "/segment", "/embed"):
        operation = paths[route]["post"]
        assert {"application/json", "multipart/form-data", "image/*"} <= set(operation["requestBody"]["content"])
        assert {"400", "413", "503"} <= set(operation["responses"])
    assert {"image/png", "application/json"} == set(paths["/segment"]["post"]["responses"]["200"]["content"])


def test_texts_where_no_model_reads_any_are_of_the_wrong_type_unless_one_did(
    triton: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is loaded anew is asked again; one that never was is not."""
    servicer, address = triton
    monkeypatch.setattr(models, "REMEMBERED_SECONDS", 0)

    async def ask() -> None:
        async with AsyncClient(address, retries=0) as client:
            known = models.Models(client, None)
            with pytest.raises(Problem, match="there are no models that make vectors of texts here; send JSON") as told:
                await known.chosen(asking.TEXT_VECTORS, None, asking.EMBEDDING)
            assert told.value.status == 415
            servicer.named["sentences"] = text_embedder([0.25])
            assert (await known.chosen(asking.TEXT_VECTORS, None, asking.EMBEDDING)).name == "sentences"
            del servicer.named["sentences"]
            with pytest.raises(ServerUnavailable):
                await known.chosen(asking.TEXT_VECTORS, None, asking.EMBEDDING)

    asyncio.run(ask())


def test_pictures_where_models_read_texts_alone_are_of_the_wrong_type() -> None:
    with serving() as (servicer, address):
        servicer.names, servicer.named = [], {"sentences": text_embedder([0.25])}
        with gateway(address, "--retries", "0") as url:
            told = post(url + "/embed")
            texts = httpx.post(url + "/embed", json={"texts": ["one"]})
    assert (told.status_code, texts.status_code) == (415, 200)
    assert 'send JSON {"texts": [...]}' in told.json()["error"]["message"]
