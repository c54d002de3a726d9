"""Detectors and segmenters, asked by the client: answers, names after rollouts, tables, drawings, moderation."""

import asyncio
import csv
import io
import json
import pickle
import subprocess
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import warm
from fake_triton import FakeTriton, Named
from PIL import Image

from client import AsyncClient, Client, Detection, InvalidInput, InvalidOption, ModelNotFound, Segmentation, drawn
from client.moderation.judging import Judge
from client.moderation.rules import resolve_objects
from client.moderation.watch import look
from client.tasks import segmentation
from client.types import Answer

Fake = tuple[FakeTriton, str]
NAMES = ["__background__", "person", "dog: large"]
FOUND = [((1.0, 2.0, 30.0, 20.0), 0.75, 1), ((4.0, 4.0, 8.0, 9.0), 0.25, 2)]
"""On every picture but `EMPTY`."""
EMPTY = b"empty"
MOST = 3


def elements(raw: bytes) -> list[bytes]:
    found = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        found.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    return found


def detected(request: Any) -> dict[str, tuple[list[int], bytes]]:
    images = elements(request.raw_input_contents[0])
    count = len(images)
    boxes, scores = np.zeros((count, MOST, 4), np.float32), np.zeros((count, MOST), np.float32)
    classes, counts = np.zeros((count, MOST), np.int32), np.zeros((count, 1), np.int32)
    for n, image in enumerate(images):
        for k, (box, score, number) in enumerate(() if image == EMPTY else FOUND):
            boxes[n, k], scores[n, k], classes[n, k] = box, score, number
            counts[n] = k + 1
    arrays = {"BOXES": boxes, "SCORES": scores, "CLASSES": classes, "COUNT": counts}
    return {name: (list(array.shape), array.tobytes()) for name, array in arrays.items()}


def detector() -> Named:
    outputs = {
        "BOXES": ("FP32", [-1, MOST, 4]),
        "SCORES": ("FP32", [-1, MOST]),
        "CLASSES": ("INT32", [-1, MOST]),
        "COUNT": ("INT32", [-1, 1]),
    }
    model = Named({"IMAGE": ("BYTES", [-1, 1])}, outputs, 4, task="detection", platform="ensemble", answer=detected)
    model.parameters = {"labels": json.dumps(NAMES)}
    return model


def mask_of(image: bytes) -> Any:
    """As high as its bytes are many."""
    mask = np.zeros((len(image), 5), np.uint8)
    mask[0] = 2
    return mask


def masked(request: Any) -> dict[str, tuple[list[int], bytes]]:
    (image,) = elements(request.raw_input_contents[0])
    mask = mask_of(image)
    return {"MASK": ([1, *mask.shape], mask.tobytes())}


def masked_as_png(request: Any) -> dict[str, tuple[list[int], bytes]]:
    packed = [drawn.mask(Segmentation(mask_of(one))) for one in elements(request.raw_input_contents[0])]
    return {"MASK": ([len(packed), 1], b"".join(len(one).to_bytes(4, "little") + one for one in packed))}


def segmenter(as_png: bool = False) -> Named:
    outputs = {"MASK": ("BYTES", [-1, 1]) if as_png else ("UINT8", [-1, -1, -1])}
    answer = masked_as_png if as_png else masked
    model = Named({"IMAGE": ("BYTES", [-1, 1])}, outputs, 4, task="segmentation", platform="ensemble", answer=answer)
    model.parameters = {"labels": json.dumps(NAMES)}
    return model


@pytest.fixture
def seeing(fake: Fake) -> Fake:
    fake[0].named = {"finder": detector(), "painter": segmenter()}
    return fake


def expected(names: list[str] = NAMES) -> tuple[Detection, ...]:
    return tuple(Detection(box, names[number], number, score) for box, score, number in FOUND)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return warm.run("client.cli", *arguments)


def picture(path: Path, colour: str = "black", size: tuple[int, int] = (48, 40), **how: Any) -> Path:
    Image.new("RGB", size, colour).save(path, **how)
    return path


def test_objects_are_told_with_their_names(seeing: Fake) -> None:
    with Client(seeing[1]) as client:
        assert client.detect(b"a") == expected()
        assert client.detect(b"a", threshold=0.5) == expected()[:1]
        assert client.detect_batch([b"a", EMPTY, b"c"], "finder") == [expected(), (), expected()]
        many = [outcome.answer for outcome in client.detect_many([b"a", EMPTY] * 5, batch_size=3)]
        assert many == [expected(), ()] * 5
        with pytest.raises(InvalidInput, match="from 0 to 1"):
            client.detect(b"a", threshold=2)
        with pytest.raises(ModelNotFound, match="is for segmentation"):
            client.detect(b"a", "painter")


def test_event_loops_are_told_the_same(seeing: Fake) -> None:
    async def ask() -> list[Any]:
        async with AsyncClient(seeing[1]) as client:
            many = [outcome.answer async for outcome in client.detect_many([b"a", EMPTY])]
            masks = [outcome.answer async for outcome in client.segment_many([b"a", b"bc"])]
            return [await client.detect(b"a"), many, (await client.segment(b"abc")).mask.shape, len(masks)]

    assert asyncio.run(ask()) == [expected(), [expected(), ()], (3, 5), 2]


def test_names_are_those_of_the_version_that_answered(seeing: Fake) -> None:
    model = seeing[0].named["finder"]
    newer = ["nothing", "tree", "bird"]
    with Client(seeing[1]) as client:
        assert client.detect(b"a", "finder") == expected()
        model.versions, model.answering = ("1", "2"), "2"
        model.parameters = {"labels": json.dumps(newer)}
        model.of_version = {"1": {"labels": json.dumps(NAMES)}}
        assert client.detect(b"a", "finder") == expected(newer)
        model.answering = "1"  # an older replica, or one that is being taken back
        assert client.detect(b"a", "finder") == expected()
        model.versions, model.answering, model.of_version = ("3",), "3", {}
        model.parameters = {}
        assert [found.label for found in client.detect(b"a", "finder")] == ["1", "2"]


class ByHttp(BaseHTTPRequestHandler):
    """A detector of two versions, the newer of which was published after the client had asked for its config."""

    newer = False

    def do_GET(self) -> None:
        if self.path.endswith("/config"):
            names = ["nothing", "tree"] if self.newer else NAMES
            parameters = {"task": {"string_value": "detection"}, "labels": {"string_value": json.dumps(names)}}
            return self._give({"name": "finder", "max_batch_size": 0, "parameters": parameters})
        inputs = [{"name": "IMAGE", "datatype": "BYTES", "shape": [1]}]
        outputs = [{"name": name, "datatype": "FP32", "shape": [1]} for name in ("BOXES", "SCORES", "CLASSES", "COUNT")]
        versions = ["2"] if self.newer else ["1"]
        facts = {"name": "finder", "versions": versions, "platform": "ensemble", "inputs": inputs, "outputs": outputs}
        return self._give(facts)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        told = {"BOXES": ("FP32", [1, 4], [0.0, 0.0, 1.0, 1.0]), "SCORES": ("FP32", [1], [0.5])}
        whole = {"CLASSES": ("INT32", [1], [1]), "COUNT": ("INT32", [1], [1])}
        outputs = [
            {"name": name, "datatype": kind, "shape": shape, "data": data}
            for name, (kind, shape, data) in (told | whole).items()
        ]
        self._give({"model_name": "finder", "model_version": "2" if self.newer else "1", "outputs": outputs})

    def _give(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def test_by_http_names_follow_the_version_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), ByHttp)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with Client(f"http://127.0.0.1:{server.server_port}", timeout=20) as client:
            labels = [client.detect(b"a", "finder")[0].label]
            monkeypatch.setattr(ByHttp, "newer", True)
            labels.append(client.detect(b"a", "finder")[0].label)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20)
    assert labels == ["person", "tree"]


def test_versions_pass_from_process_to_process() -> None:
    """As answers do in a child that was forked."""
    answer = Answer({"COUNT": None})
    answer.version = "7"
    assert pickle.loads(pickle.dumps(answer)).version == "7"


def test_masks_of_own_sizes_are_asked_for_one_by_one(seeing: Fake) -> None:
    with Client(seeing[1]) as client:
        found = client.segment_batch([b"a", b"bcd"])
        assert [one.mask.shape for one in found] == [(1, 5), (3, 5)]
        assert [request.inputs[0].shape[0] for request in seeing[0].requests] == [1, 1]
        many = [outcome.answer.mask.shape for outcome in client.segment_many([b"a", b"bcd"])]
    assert many == [(1, 5), (3, 5)]
    assert segmentation.pixels(found[1]) == [
        {"class": 0, "label": "__background__", "pixels": 10},
        {"class": 2, "label": "dog: large", "pixels": 5},
    ]


def test_masks_as_png_travel_together(fake: Fake) -> None:
    fake[0].named = {"painter": segmenter(as_png=True)}
    with Client(fake[1]) as client:
        found = client.segment_batch([b"a", b"bcd"])
    assert [one.mask.tolist() for one in found] == [mask_of(one).tolist() for one in (b"a", b"bcd")]
    assert len(fake[0].requests) == 1


def test_the_command_prints_and_draws(seeing: Fake, tmp_path: Path) -> None:
    paths = [picture(tmp_path / "dark.png"), picture(tmp_path / "light.png", "white")]
    told = run("detect", *paths, "--url", seeing[1], "--json", "--draw", tmp_path / "drawn", "--threshold", "0.5")
    assert told.returncode == 0, told.stderr
    records = [json.loads(line) for line in told.stdout.splitlines()]
    assert [record["image"] for record in records] == list(map(str, paths))
    assert records[0]["detections"] == [{"box": [1, 2, 30, 20], "class": 1, "label": "person", "score": 0.75}]
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["dark.png.png", "light.png.png"]
    refused = run("detect", *paths, "--url", seeing[1], "--draw", tmp_path / "one.png")
    assert refused.returncode == InvalidInput.exit_code
    assert "name a folder" in refused.stderr
    other = run("detect", paths[0], "--url", seeing[1], "--draw", tmp_path / "found.jpg")
    assert other.returncode == InvalidOption.exit_code
    assert "pictures are written as PNG" in other.stderr
    assert not (tmp_path / "found.jpg").exists()


def rows_of(path: Path) -> Iterable[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_tables_have_a_row_an_object(seeing: Fake, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(EMPTY)
    paths = [picture(tmp_path / "a.png"), tmp_path / "empty.png", tmp_path / "lacking.png"]
    for form in ("csv", "parquet", "jsonl", "coco"):
        told = run("detect", *paths, "--url", seeing[1], f"--{form}", tmp_path / f"out.{form}")
        assert told.returncode == InvalidInput.exit_code, told.stderr
    rows = [(Path(r["path"]).name, r["label"], r["x2"], bool(r["error"])) for r in rows_of(tmp_path / "out.csv")]
    a, lacking = ("a.png", "person", "30", False), ("lacking.png", "", "", True)
    assert rows == [a, ("a.png", "dog: large", "8", False), ("empty.png", "", "", False), lacking]
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert table[0]["detections"] == lines[0]["detections"]
    coco = json.loads((tmp_path / "out.coco").read_text())
    assert coco["categories"] == [{"id": number, "name": name} for number, name in enumerate(NAMES)]
    assert [(one["image_id"], one["category_id"], one["bbox"], one["score"]) for one in coco["annotations"]] == [
        (1, 1, [1, 2, 29, 18], 0.75),
        (1, 2, [4, 4, 4, 5], 0.25),
    ]
    assert [one.get("width") for one in coco["images"]] == [48, None, None]
    assert "error" in coco["images"][2]


def test_segment_prints_pixels_and_writes_pictures(seeing: Fake, tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    out, masks = tmp_path / "over.png", tmp_path / "masks"
    told = run("segment", path, "--url", seeing[1], "--json", "--overlay", out, "--masks", masks)
    assert told.returncode == 0, told.stderr
    record = json.loads(told.stdout)
    height = len(path.read_bytes())
    assert (record["width"], record["height"]) == (5, height)
    assert [(one["class"], one["pixels"]) for one in record["classes"]] == [(0, 5 * height - 5), (2, 5)]
    with Image.open(masks / "a.png.png") as mask:
        assert (mask.mode, np.asarray(mask).max()) == ("P", 2)
    with Image.open(out) as shown:
        assert shown.size == (48, 40)


@pytest.mark.parametrize("ground", ["black", "white"])
def test_boxes_are_seen_on_any_ground(ground: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (200, 200), ground).save(file, "PNG")
    with Image.open(io.BytesIO(drawn.boxes(file.getvalue(), [Detection((20, 50, 180, 180), "dog", 1, 0.9)]))) as out:
        pixels = np.asarray(out).astype(int)
    assert tuple(pixels[100, 20]) == drawn.colour(1)
    text = pixels[25:49, 20:100].sum(axis=2)
    assert text.min() < 100
    assert text.max() > 665


def test_pictures_are_drawn_on_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = picture(tmp_path / "turned.jpg", size=(60, 30), exif=exif)
    with Image.open(io.BytesIO(drawn.boxes(path.read_bytes(), expected()))) as out:
        assert out.size == (30, 60)


def test_the_background_is_not_tinted() -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 2), "gray").save(file, "PNG")
    mask = np.array([[0, 0, 3, 3]], np.uint8)
    with Image.open(io.BytesIO(drawn.overlay(file.getvalue(), Segmentation(mask)))) as out:
        assert out.getpixel((0, 0)) == (128, 128, 128)
        assert out.getpixel((3, 1)) != (128, 128, 128)


def test_forbidden_objects_have_scores_of_their_own() -> None:
    rules = resolve_objects(["Person:0.8", "dog: large"], NAMES, 0.2)
    assert dict(rules.least) == {"person": 0.8, "dog: large": 0.2}
    told = rules.decide(expected())
    assert (told.is_forbidden, told.label, told.score) == (True, "dog: large", 0.25)
    told = resolve_objects(["1:0.8"], NAMES, 0.5).decide(expected())
    assert (told.is_forbidden, told.label, told.score) == (False, "person", 0.75)
    assert not resolve_objects(["person"], NAMES, 0.5).decide(()).is_forbidden
    for wrong, why in (("persom:0.5", "did you mean 'person'"), ("3", "no class"), ("person:7", "from 0 to 1")):
        with pytest.raises(InvalidInput, match=why):
            resolve_objects([wrong], NAMES, 0.5)


def test_the_moderator_asks_detectors(seeing: Fake, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "b.png").write_bytes(EMPTY)
    with Client(seeing[1]) as client:
        judge = Judge(client, "finder", ["person:0.6"], 0.9)
        judge.prepare()
        found = [look(tmp_path / name) for name in ("a.png", "b.png")]
        verdicts = [judge.judge(one) for one in found if one]
        with pytest.raises(ModelNotFound):
            Judge(client, "painter", ["person"], 0.9).prepare()
        seeing[0].names = []
        Judge(client, None, ["person"], 0.9).prepare()  # there is no classifier, and one detector
    assert [(one.kind, one.label) for one in verdicts] == [("forbidden", "person"), ("clean", "")]
