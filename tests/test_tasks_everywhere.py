"""What is there for every task: a model of each is checked, locked, merged, compared, rolled out and back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import build, write_manifest
from explicit_servers import serving
from tokenizing import write_tokenizer
from typer.testing import CliRunner
from wholeness import answers

from builder.build.run import resolve
from builder.cli import app
from builder.compare.run import compare
from builder.compare.variants import entry_or_network
from builder.containers import KINDS, default_kind
from builder.data.images import SAMPLES
from builder.errors import ManifestError
from builder.lifecycle.rollout import RolloutOptions, roll_out
from builder.manifest.models import load_manifest
from builder.repository import lock
from builder.repository.history import history
from builder.repository.merge import merge_repositories
from builder.repository.rollback import RolledBack, roll_back
from builder.repository.served import read_intact, requirements
from builder.triton.connection import Access
from client import Client

ENDS = Path(__file__).parent / "networks" / "ends.py"
PHOTO = SAMPLES / "chelsea.jpg"
RECIPE = "mean: [0.4, 0.4, 0.4], std: [0.2, 0.2, 0.2]"
KEYS = {
    "boxes": f"task: detection, output: {{layout: yolo}}, preprocess: {{channels: 3, letterbox: 64, {RECIPE}}}",
    "masks": f"task: segmentation, preprocess: {{channels: 3, resize: [64, 64], {RECIPE}}}",
    "vectors": f"task: embedding, preprocess: {{channels: 3, resize: [64, 64], {RECIPE}}}",
    "texts": "task: text, tokenizer: tokenizer.json, max_length: 64, pool: mean",
}
ASK: dict[str, Callable[[Client], Any]] = {
    "boxes": lambda client: [one.box for one in client.detect(PHOTO, "boxes")],
    "masks": lambda client: client.segment(PHOTO, "masks").mask,
    "vectors": lambda client: client.embed(PHOTO, "vectors"),
    "texts": lambda client: client.embed(["A line of text."], "texts"),
}
every_task = pytest.mark.parametrize("name", KEYS)


def entry(name: str, seed: int = 0, called: str = "") -> str:
    said = f"network: ends.py:{name}, arguments: {{seed: {seed}}}, weights: included, format: onnx"
    return f"  {called or name}: {{{said}, {KEYS[name]}}}\n"


def made(folder: Path, *entries: str) -> Path:
    shutil.copy(ENDS, folder)
    write_tokenizer(folder / "tokenizer.json")
    build(folder, "models:\n" + "".join(entries))
    return folder / "repository"


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each task's model in two versions; look, do not touch."""
    folder = tmp_path_factory.mktemp("tasks")
    for seed in (0, 1):
        repository = made(folder, *(entry(name, seed) for name in KEYS))
    return repository


@pytest.fixture
def repository(twice: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(twice, tmp_path / "repository"))


def test_the_server_would_take_them(twice: Path) -> None:
    checked = CliRunner().invoke(app, ["check", str(twice)])
    assert checked.exit_code == 0, checked.output
    assert "warning" not in checked.output.lower()


@every_task
def test_they_are_locked(name: str, repository: Path) -> None:
    assert lock.problems(repository) == []
    (served,) = (one for one in read_intact(repository) if one.name == name)
    recorded = lock.read(repository)[name].versions["2"]
    assert recorded
    assert recorded.built_from["entry"]["task"] == served.task
    for part in served.parts:  # the steps as well
        (file, *_) = sorted(path for path in part.folder.iterdir() if path.is_file() and path.name != "config.pbtxt")
        before = file.read_bytes()
        file.write_bytes(before + b" ")
        assert any(part.model.name in problem for problem in lock.problems(repository))
        file.write_bytes(before)


def test_repositories_of_all_tasks_become_one(twice: Path, tmp_path: Path) -> None:
    """The other one has models of other names, and shares steps with the first."""
    other = made(tmp_path, *(entry(name, 2, f"other_{name}") for name in KEYS))
    merge_repositories([twice, other], tmp_path / "merged")
    for name in KEYS:
        assert answers(tmp_path / "merged", name) != "nothing"
        assert answers(tmp_path / "merged", f"other_{name}") != "nothing"
    checked = CliRunner().invoke(app, ["check", str(tmp_path / "merged")])
    assert checked.exit_code == 0, checked.output


def test_versions_are_rolled_out_and_back(repository: Path, tmp_path: Path) -> None:
    """Rollouts hold the server to the recorded answers; that each version has its own is seen by asking."""
    patient = RolloutOptions(timeout=60)
    for name in KEYS:
        assert roll_back(repository, name) == RolledBack(name, 2, 1)
    with serving(repository, tmp_path) as running, Client(running.grpc) as client:
        told = {1: {name: ask(client) for name, ask in ASK.items()}}
        for before, after in ((1, 2), (2, 1)):
            for name in KEYS:
                roll_back(repository, name, after)
            (result,) = roll_out(repository, [Access(running.grpc)], patient)
            changed = {(change.model, change.before, change.after) for change in result.changes}
            assert changed == {(name, before, after) for name in KEYS}
            told[-after] = {name: ask(client) for name, ask in ASK.items()}
    for name in KEYS:
        assert np.array_equal(told[-1][name], told[1][name]), name
        assert not np.array_equal(told[-2][name], told[1][name]), name
        assert [release.version for release in history(repository, name)] == [2, 1], name


def test_images_have_what_the_steps_need(twice: Path) -> None:
    models = read_intact(twice)
    assert default_kind(models) == "slim"
    assert [KINDS[kind].refusal(models) for kind in KINDS] == ["", ""]
    assert [one.partition("==")[0] for one in requirements(models)] == ["pillow", "tokenizers"]


@pytest.mark.parametrize(
    "name", [*list(KEYS)[:1], *(pytest.param(name, marks=pytest.mark.slow) for name in list(KEYS)[1:])]
)
def test_formats_are_compared(name: str, tmp_path: Path) -> None:
    """Over 10 s: each format is timed in a process of its own."""
    shutil.copy(ENDS, tmp_path)
    write_tokenizer(tmp_path / "tokenizer.json")
    (item,) = resolve(load_manifest(write_manifest(tmp_path, "models:\n" + entry(name))))
    found = compare(item, ["onnx"], ["fp32", "int8"], rounds=1)
    exact, rough = found.rows
    assert exact.reason == ""
    assert exact.samples_per_second
    assert "calibration" in rough.reason


TWO = "task: detection, network: ends.py:two_stage, weights: included, labels: [none, cup, mug, jug]"


@pytest.mark.parametrize(
    ("form", "precision"), [("onnx", "fp32"), ("onnx", "fp16"), pytest.param("aoti", "fp32", marks=pytest.mark.slow)]
)
def test_detectors_of_two_stages_are_exported(form: str, precision: str, tmp_path: Path) -> None:
    """Over 10 s: AOTInductor compiles. The suppression of all images at once is an operator of torchvision's."""
    shutil.copy(ENDS, tmp_path)
    (built,) = build(tmp_path, f"models:\n  m: {{{TWO}, format: {form}, precision: {precision}}}\n")
    figures = built.verification.figures()
    assert figures["found_agreement"] == 1.0
    assert figures["box_error"] < 0.5


def test_what_a_detector_of_two_stages_cannot_be_is_said_before_its_export(tmp_path: Path) -> None:
    shutil.copy(ENDS, tmp_path)
    with pytest.raises(ManifestError, match="openvino") as refused:
        build(tmp_path, f"models:\n  m: {{{TWO}, format: torchscript, precision: int8, calibration: {SAMPLES}}}\n")
    assert "models.m.precision" in str(refused.value)


def test_a_network_alone_is_compared_for_what_it_is_made_for(tmp_path: Path) -> None:
    for name, task in (("lraspp_mobilenet_v3_large", "segmentation"), ("lenet", "classification")):
        alone = entry_or_network(None, tmp_path / "models.yaml", name, "random")
        assert alone.spec.task == task
