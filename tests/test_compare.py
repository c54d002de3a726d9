"""`build-repo compare`: formats and precisions side by side."""

import json
from pathlib import Path

import pytest
from conftest import write_manifest
from PIL import Image
from test_cli import build_repo

from builder import errors
from builder.data.images import SAMPLES

MANIFEST = f"""
models:
  mine:
    network: small.py:small
    weights: random
    labels: [cat, dog, cow]
    images: small.py:photos
    calibration: {SAMPLES}
    tolerance: {{noise: 3, top1_agreement: 0}}
    preprocess: {{channels: 3, resize: 40, crop: 32}}
  uncalibrated: {{network: lenet, weights: random}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    write_manifest(folder, MANIFEST)
    return folder


def test_json_and_picture(folder: Path) -> None:
    options = ["--format", "onnx", "--format", "openvino", "--precision", "int8"]
    finished = build_repo("compare", "mine", *options, "--rounds", 1, "--json", "--picture", "mine.png", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout)
    assert (result["name"], result["images"], result["trained"]) == ("mine", 10, False)
    assert [(row["format"], row["precision"]) for row in result["rows"]] == [("onnx", "int8"), ("openvino", "int8")]
    for row in (result["network"], *result["rows"]):
        assert row["latency_ms"] > 0
        assert row["images_per_second"] > 0
    for row in result["rows"]:
        assert row["reason"] == ""
        assert row["megabytes"] > 0
        assert row["build_seconds"] > 0
        assert 0 <= row["check"]["top1_agreement"] <= 1
        assert 0 <= row["check"]["artifact_accuracy"] <= 1
    with Image.open(folder / "mine.png") as picture:
        assert picture.format == "PNG"
    found = {file.name for file in folder.iterdir()} - {"__pycache__"}  # Python's, beside what it imports
    assert found == {"mine.png", "models.yaml", "small.py"}


def test_table_tells_why_a_row_is_empty(folder: Path) -> None:
    finished = build_repo(
        "compare", "uncalibrated", "--format", "onnx", "--precision", "int8", "--rounds", 1, cwd=folder
    )
    assert finished.returncode == 0, finished.stderr
    head, network, row, reason = finished.stdout.splitlines()
    assert head.split()[:2] == ["FORMAT", "PRECISION"]
    assert network.split()[:2] == ["pytorch", "fp32"]
    assert row.split() == ["onnx", "int8", *["-"] * 5]
    assert reason.startswith("onnx int8: int8 needs `calibration")
    assert "random weights" in finished.stderr


def test_networks_need_no_entry(tmp_path: Path) -> None:
    options = ["--format", "onnx", "--precision", "int8", "--calibration", SAMPLES, "--weights", "random"]
    finished = build_repo("compare", "lenet", *options, "--rounds", 1, "--json", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    (row,) = json.loads(finished.stdout)["rows"]
    assert row["check"]["images"] == 8


def test_the_articles_table(tmp_path: Path) -> None:
    table = build_repo("compare", "--published", "alexnet", "vgg16", "googlenet", cwd=tmp_path).stdout
    head, *rows = (line.split() for line in table.splitlines())
    assert head[:5] == ["NETWORK", "FAMILY", "YEAR", "LAYERS", "PARAMETERS"]
    assert [(row[0], row[2], row[3], row[4], row[6]) for row in rows] == [
        ("alexnet", "2012", "8", "61,100,840", "20.934"),
        ("vgg16", "2014", "16", "138,357,544", "9.618"),
        ("googlenet", "2014", "22", "6,624,904", "10.47"),
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nothing"], errors.CompareError.exit_code, "neither an entry of models.yaml (mine, uncalibrated) nor"),
        (["--published", "nothing"], errors.NetworkError.exit_code, "nothing is published of nothing"),
        (["mine", "--format", "tape"], errors.CompareError.exit_code, "there is no format 'tape'; choose"),
        (["mine", "--precision", "int3"], errors.CompareError.exit_code, "no precision 'int3' on the CPU"),
        (["-m", "none.yaml", "mine"], errors.CompareError.exit_code, "none.yaml does not exist"),
        (["mine", "--picture", "nowhere/p.png"], errors.CompareError.exit_code, "cannot be written to nowhere/p.png"),
        (["mine", "--picture", "p.bmp"], errors.CompareError.exit_code, ".png, .svg, .pdf"),
    ],
)
def test_mistakes(arguments: list[str], code: int, message: str, folder: Path) -> None:
    finished = build_repo("compare", *arguments, cwd=folder)
    assert (finished.returncode, message in finished.stderr) == (code, True), finished.stderr
