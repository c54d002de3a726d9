"""Models that give several labels at once (sigmoid), and thresholds of all models."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet
import pytest
from connecting import BOTH, Connect
from fake_triton import FakeTriton, Named
from gateways import gateway
from hypothesis import given
from hypothesis import strategies as st

from client import Client, InvalidInput, ModelNotFound, Prediction
from client.batch.rows import Row
from client.batch.tables import WRITERS
from client.cli import app
from client.moderation.rules import resolve
from client.tasks import classification
from client.types import ModelInfo, TensorInfo

Fake = tuple[FakeTriton, str]
CELLS = [b"0.900000:2:red", b"0.500000:0:dog", b"0.499999:3:near", b'0.000000:1:cat;"grey"']
IMAGE = (TensorInfo("IMAGE", "BYTES", (-1, 1)),)


@pytest.fixture
def tagger(fake: Fake) -> Fake:
    servicer, _ = fake
    servicer.parameters = {"task": "classification", "activation": "sigmoid"}
    servicer.shape, servicer.cells = [-1, 4], CELLS
    return fake


@pytest.fixture(params=BOTH.values(), ids=BOTH)
def connect(request: pytest.FixtureRequest) -> Connect:
    kind: Connect = request.param
    return kind


def labels(predictions: tuple[Prediction, ...]) -> list[str]:
    return [prediction.label for prediction in predictions]


def test_labels_at_or_above_the_threshold_are_given(connect: Connect, tagger: Fake) -> None:
    with connect(tagger[1]) as client:
        assert labels(client.classify(b"x")) == ["red", "dog"]
        assert labels(client.classify(b"x", threshold=0.6)) == ["red"]
        assert labels(client.classify(b"x", threshold=0.91)) == []
        assert labels(client.classify(b"x", threshold=0)) == ["red", "dog", "near", 'cat;"grey"']
        assert labels(client.classify(b"x", top=1)) == ["red"]
        assert [labels(row) for row in client.classify_batch([b"x", b"y"], threshold=0.6)] == [["red"]] * 2
        assert [labels(one.predictions) for one in client.classify_many([b"x"], threshold=0.4)] == [
            ["red", "dog", "near"]
        ]
    assert tagger[0].calls == 7


def test_a_single_score_is_a_class(connect: Connect, tagger: Fake) -> None:
    tagger[0].shape, tagger[0].cells = [-1, 1], [b"0.700000:0:yes"]
    with connect(tagger[1]) as client:
        assert client.classify(b"x") == (Prediction(0, "yes", 0.7),)
        assert client.classify(b"x", threshold=0.8) == ()


def test_a_threshold_filters_other_models_when_it_is_given(connect: Connect, fake: Fake) -> None:
    with connect(fake[1]) as client:
        assert len(client.classify(b"x")) == 2
        assert labels(client.classify(b"x", threshold=0.5)) == ["dog: large"]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), float("inf")])
def test_impossible_thresholds(connect: Connect, threshold: float, tagger: Fake) -> None:
    with connect(tagger[1]) as client:
        with pytest.raises(InvalidInput, match="from 0 to 1"):
            client.classify(b"x", threshold=threshold)
        with pytest.raises(InvalidInput, match="from 0 to 1"):
            list(client.classify_many([b"x"] * 9, threshold=threshold))
    assert tagger[0].calls == 0


def test_scores_of_no_activation_have_any_threshold(connect: Connect, tagger: Fake) -> None:
    tagger[0].parameters["activation"] = "none"
    tagger[0].cells = [b"7.500000:0:a", b"-2.000000:1:b"]
    with connect(tagger[1]) as client:
        assert labels(client.classify(b"x")) == ["a", "b"]
        assert labels(client.classify(b"x", threshold=-2)) == ["a", "b"]
        assert labels(client.classify(b"x", threshold=3)) == ["a"]


def test_a_model_of_another_task_is_no_classifier(connect: Connect, fake: Fake) -> None:
    fake[0].parameters = {"task": "embedding"}
    with connect(fake[1]) as client:
        assert client.model("pets").task == "embedding"
        with pytest.raises(ModelNotFound, match="is for embedding, and does not map encoded images to classes"):
            client.classify(b"x", "pets")
        with pytest.raises(ModelNotFound, match=r"the image classifiers at .* are: none"):
            client.classify(b"x")


def test_models_tell_their_task(tagger: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    tagger[0].named = {
        "echo": Named({"a": ("FP32", [-1]), "b": ("FP32", [-1])}, {"c": ("FP32", [-1])}, optional=("b",)),
        "unsaid": Named({"a": ("FP32", [-1])}, {"c": ("FP32", [-1])}, task=""),
    }
    app(["models", "--url", tagger[1]], standalone_mode=False)
    header, *lines = (line.split() for line in capsys.readouterr().out.splitlines())
    assert {line[0]: line[header.index("TASK")] for line in lines} == {
        "echo": "tensors",
        "pets": "classification",
        "unsaid": "-",
    }
    assert "b:FP32[-1]?" in lines[0]
    app(["models", "--url", tagger[1], "--json"], standalone_mode=False)
    found = {record["name"]: record for record in json.loads(capsys.readouterr().out)}
    assert {name: record["task"] for name, record in found.items()} == {
        "echo": "tensors",
        "pets": "classification",
        "unsaid": None,
    }
    assert found["echo"]["optional"] == ["b"]


# --- tables ---


def columns(classes: int, **choice: Any) -> Any:
    outputs = (TensorInfo("PROBABILITIES", "FP32", (-1, classes)),)
    info = ModelInfo("m", ("1",), "ensemble", 4, IMAGE, outputs, parameters={"activation": "sigmoid"})
    return classification.columns(info, classification.request([], choice.get("top"), choice.get("threshold")))


LABELS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)
PREDICTIONS = st.lists(st.builds(Prediction, st.integers(0, 999), LABELS, st.floats(0, 1, width=16)), max_size=4)


@given(answers=st.lists(PREDICTIONS.map(tuple), max_size=4))
def test_tables_hold_all_labels_of_an_image(answers: list[tuple[Prediction, ...]], tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("tables")
    rows = [*(Row(f"{number}.jpg", answer) for number, answer in enumerate(answers)), Row("bad.jpg", error="no image")]
    for form, write in WRITERS.items():
        write(folder / form, rows, columns(1000))
    with (folder / "csv").open(newline="", encoding="utf-8") as file:
        *good, bad = csv.DictReader(file)
    assert [row["count"] for row in good] == [str(len(answer)) for answer in answers]
    assert (bad["error"], bad["count"], bad["labels"]) == ("no image", "", "")
    for row, answer in zip(good, answers, strict=True):
        found = parted(row["labels"].removeprefix("'") if row["labels"][:1] == "'" else row["labels"])
        assert found == [p.label for p in answer] or row["labels"].startswith("'")
        assert parted(row["classes"]) == [str(p.class_id) for p in answer]
        assert list(map(float, parted(row["probabilities"]))) == pytest.approx(
            [p.probability for p in answer], rel=1e-5
        )
    for form in ("jsonl", "parquet"):
        *good, bad = read(folder / form)
        told = [[(p["class"], p["label"]) for p in row["predictions"]] for row in good]
        assert told == [[(p.class_id, p.label) for p in answer] for answer in answers]
        assert bad["error"] == "no image"


def parted(text: str) -> list[str]:
    """As the page on clients says it."""
    return next(csv.reader([text], delimiter=";"), [])


def read(path: Path) -> list[dict[str, Any]]:
    if path.name == "jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return found


def test_a_run_goes_on_with_the_same_threshold_alone() -> None:
    assert columns(4).settings == {"top": None, "threshold": 0.5}
    assert columns(4, threshold=0.25, top=3).settings == {"top": 3, "threshold": 0.25}


# --- the gateway and the moderator ---


def test_the_gateway_takes_a_threshold(tagger: Fake) -> None:
    with gateway(tagger[1]) as url:
        asked: dict[str, Any] = {"content": b"x", "headers": {"content-type": "image/jpeg"}}
        found = httpx.post(url + "/classify", **asked).json()["predictions"]
        assert [one["label"] for one in found] == ["red", "dog"]
        assert httpx.post(url + "/classify?threshold=0.95", **asked).json() == {"predictions": []}
        assert len(httpx.post(url + "/classify?threshold=0&top=3", **asked).json()["predictions"]) == 3
        for wrong in ("nan", "2", "much"):
            refused = httpx.post(url + f"/classify?threshold={wrong}", **asked)
            assert (refused.status_code, refused.json()["error"]["type"]) == (400, "InvalidInput")


def test_of_several_labels_each_is_judged_by_itself() -> None:
    names = {0: "cat", 1: "dog", 2: "car"}
    rules = resolve(["cat", "dog"], names, 0.5, several=True)
    assert rules.score([0.4, 0.3, 0.9]) == 0.4
    assert resolve(["cat", "dog"], names, 0.5).score([0.4, 0.3, 0.3]) == pytest.approx(0.7)


def test_the_moderator_knows_all_labels_and_adds_none_up(tagger: Fake, tmp_path: Path) -> None:
    from client.moderation.judging import Judge
    from client.moderation.watch import look

    servicer, url = tagger
    servicer.shape, servicer.cells = [-1, 2], [b"0.400000:0:cat", b"0.300000:1:dog"]
    servicer.probabilities = lambda image: (0.4, 0.9) if image == b"dog" else (0.4, 0.3)
    with Client(url) as client:
        judge = Judge(client, None, ["cat", "dog"], 0.5)
        judge.prepare()
        verdicts = {}
        for name in ("dog", "other"):
            (tmp_path / name).write_text(name)
            found = look(tmp_path / name)
            assert found
            verdicts[name] = judge.judge(found)
    assert verdicts["other"].kind == "clean"
    assert (verdicts["dog"].kind, verdicts["dog"].label) == ("forbidden", "dog")
