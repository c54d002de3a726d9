"""Repositories of the version before: their configs name no task, and their models are all image classifiers."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ANY_PORTS
from published import publish_model
from wholeness import answers, served

from builder.containers.context import copy_served
from builder.data.images import SAMPLES
from builder.launchers import LAUNCHERS
from builder.launchers.newer import published
from builder.repository import lock
from builder.repository.merge import merge_repositories
from builder.repository.rollback import roll_back
from builder.repository.served import digest, read_intact, read_repository, requirements, retired
from client import Client

BEFORE = Path(__file__).parent / "repositories" / "before"
STEP = "preprocess_45d6f2e4"
# What the version before answered, serving this repository.
PROBABILITIES = {
    "chelsea.jpg": [0.348267, 0.340085, 0.311648],
    "rocket.jpg": [0.365919, 0.349812, 0.284269],
}
LABELS = {"tiny": ["cat", "dog", "fish"], "tiny_onnx": ["0", "1", "2"]}
DIGEST = "8288b7573ea95e832eda1b020f581268ff9bcca20c3459554f7f6d0bc5aa2207"
"""As the version before took it: what is deployed is not rolled out anew for another build-repo."""


@pytest.fixture
def before(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BEFORE, tmp_path / "before"))


def test_it_is_read_as_what_it_is() -> None:
    tiny, tiny_onnx = read_intact(BEFORE)
    assert (tiny.name, tiny.version, tiny.task, tiny.backend) == ("tiny", 1, "classification", "pytorch")
    assert [step.name for step in tiny.steps] == [step.name for step in tiny_onnx.steps] == [STEP]
    assert (tiny_onnx.network.name, tiny_onnx.network.version) == ("tiny_onnx_onnx", 1)
    assert tiny_onnx.network.facts["format"] == "onnx"
    assert not tiny.needs_gpu
    assert requirements([tiny, tiny_onnx]) == ("pillow==13.0.0",)
    assert digest([tiny, tiny_onnx]) == DIGEST
    assert published(BEFORE) == {"tiny": (1,), "tiny_onnx": (1,)}


def test_merged_with_itself_it_is_itself(before: Path, tmp_path: Path) -> None:
    merged = merge_repositories([BEFORE, before], tmp_path / "out")
    assert [(model.name, model.version) for model in merged] == [("tiny", 1), ("tiny_onnx", 1)]
    lock.require_intact(tmp_path / "out")
    assert digest(read_repository(tmp_path / "out")) == DIGEST
    recorded, ours = lock.read(tmp_path / "out"), lock.read(BEFORE)
    assert recorded.keys() == ours.keys()
    for name in ("tiny", "tiny_onnx"):
        one, other = recorded[name].versions["1"], ours[name].versions["1"]
        assert one
        assert other
        assert one.built_from == other.built_from


def test_an_image_takes_it_whole(tmp_path: Path) -> None:
    copy_served(BEFORE, tmp_path / "models")
    assert digest(read_intact(tmp_path / "models")) == DIGEST


def test_new_versions_come_on_top_and_leave_the_rest(before: Path) -> None:
    other = answers(before, "tiny_onnx")
    onnx = {"backend": "onnx", "filename": "model.onnx", "files": {"model.onnx": "weights"}}
    assert publish_model(before, "tiny", **onnx, alone=True).version == 2
    assert answers(before, "tiny_onnx") == other
    assert set(served(before)) - retired(before) == {STEP, "tiny", "tiny_onnx", "tiny_onnx_onnx"}
    assert publish_model(before, "tiny_onnx", **onnx, steps=["preprocess_1", "postprocess_1"]).version == 2
    ours = {"preprocess_1", "postprocess_1", "tiny", "tiny_onnx", "tiny_onnx_onnx_v2"}
    assert set(served(before)) - retired(before) == ours
    lock.require_intact(before)
    assert roll_back(before, "tiny_onnx").after == 1
    assert answers(before, "tiny_onnx") == other


def test_merged_over_what_is_served_it_is_the_next_version(before: Path) -> None:
    assert [model.version for model in merge_repositories([BEFORE], before)] == [2, 2]
    assert set(served(before)) == {path.name for path in BEFORE.iterdir() if path.is_dir()}
    lock.require_intact(before)


def test_it_is_served_as_before_and_beside_a_network_by_itself(before: Path) -> None:
    """By the real server: takes the ten seconds that it and PyTorch's import do."""
    network = (BEFORE / "tiny_onnx_onnx" / "1" / "model.onnx").read_bytes()
    onnx: dict[str, Any] = {"backend": "onnxruntime", "filename": "model.onnx", "files": {"model.onnx": network}}
    publish_model(before, "scores", **onnx, classes=3, labels=None, device="cpu", facts={}, alone=True)
    with LAUNCHERS["embedded"].launch(before, ANY_PORTS) as server, Client(server.endpoints.grpc) as client:
        pixels = {"INPUT__0": np.random.default_rng(1).random((2, 3, 32, 32), dtype=np.float32)}
        rows = [client.infer(model, pixels)["OUTPUT__0"] for model in ("scores", "tiny_onnx_onnx")]
        np.testing.assert_array_equal(*rows)
        for name, labels in LABELS.items():
            for picture, expected in PROBABILITIES.items():
                found = client.classify(SAMPLES / picture, name, top=3)
                assert [prediction.label for prediction in found] == labels
                assert [prediction.probability for prediction in found] == pytest.approx(expected, abs=1e-4)
