"""build-repo train, and what it leaves."""

import contextlib
import csv
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import warm
from conftest import NETWORKS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from processes import started
from safetensors.torch import load_file
from training_sets import SHAPES, idx, shape, write_fashion, write_shapes
from waiting import until

from builder.build.reference import make_network
from builder.build.run import build_repository, resolve
from builder.data.recipe import PreprocessRecipe
from builder.errors import BuilderError, DataError, ManifestError, NetworkError, TrainingError, WeightsError
from builder.manifest.models import load_manifest
from builder.networks import torchvision
from builder.networks.alexnet_gray import alexnet_gray
from builder.networks.card import Card
from builder.tasks.images.preprocessing import resolve_recipe
from builder.training import augment, data, datasets, loop, trainable
from builder.training.data import Batches, Examples, LabelledImages, as_mode, stratified
from builder.training.epochs import is_better
from builder.training.run import Result, Watcher, train
from builder.training.spec import Augment, Data, TrainingSpec, load_run
from builder.types import NetworkRequest, WeightsSource
from builder.util.hashing import sha256

BAD = sorted((Path(__file__).parent / "trainings").glob("*.yaml"))
DIGIT_LABELS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
DIGITS = {"network": "lenet", "data.set": "digits", "epochs": 2, "batch_size": 64, "lr": 0.004}


def run(out: Path, watcher: Watcher | None = None, fresh: bool = False, **changes: Any) -> Result:
    """Keys with `__` for the dots."""
    given_ = DIGITS | {"out": str(out)} | {key.replace("__", "."): value for key, value in changes.items()}
    return train(load_run(None, given_), fresh, watcher)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "builder", "train", *map(str, arguments)]


def build_repo_train(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return warm.run("builder", "train", *arguments, cwd=cwd, timeout=300)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 JPEG files of three classes: look, do not touch."""
    return write_shapes(tmp_path_factory.mktemp("shapes") / "shapes", 20)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs: look, do not touch."""
    out = tmp_path_factory.mktemp("digits") / "run"
    run(out, samples__heldout=20, samples__calibration=10)
    return out


def log(out: Path) -> list[dict[str, str]]:
    with (out / "log.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- what a run leaves ---


def test_everything_is_there(digits: Path) -> None:
    rows = log(digits)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["accuracy"]) > 0.8
    assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])
    assert (digits / "labels.txt").read_text().split() == DIGIT_LABELS
    for name in ("curves.png", "confusion.png"):
        with Image.open(digits / name) as picture:
            assert min(picture.size) > 200
    assert len(list((digits / "heldout").rglob("*.png"))) == 20
    assert {path.parent.name for path in (digits / "calibration").rglob("*.png")} <= set("0123456789")
    assert not list(digits.glob("*.partial"))


def test_card_says_all_that_serving_needs(digits: Path) -> None:
    card = Card.model_validate_json((digits / "best.card.json").read_text(encoding="utf-8"))
    assert card.sha256 == sha256(digits / "best.safetensors")
    assert (card.network, card.arguments) == ("lenet", {"num_classes": 10})
    assert card.recipe.shape == (1, 28, 28)
    assert card.labels[:2] == ("zero", "one")
    assert card.data["train"] + card.data["heldout"] == 1797
    assert card.training["lr"] == 0.004
    assert 0.8 < card.metrics["accuracy"] <= card.metrics["top5"] <= 1
    assert set(card.metrics["classes"]) == set(card.labels)


def test_tensorboard_can_read_it(digits: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(digits / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("accuracy")] == [1, 2]
    assert {"loss", "train_loss", "train_accuracy", "lr"} <= set(events.Tags()["scalars"])


def test_weights_are_as_good_as_the_card_says(digits: Path) -> None:
    """By a loop that shares nothing with training's."""
    card = Card.model_validate_json((digits / "best.card.json").read_text(encoding="utf-8"))
    from builder.networks.lenet import lenet

    network = lenet()
    network.load_state_dict(load_file(digits / "best.safetensors"))
    heldout = datasets.find("digits").load(Data(set="digits"), Path(), 0).heldout
    transform = card.recipe.reference_transform()
    images = torch.stack([transform(heldout.image(i, card.recipe)) for i in range(len(heldout))])
    with torch.inference_mode():
        right = (network.eval()(images).argmax(1) == torch.tensor(heldout.classes)).double().mean().item()
    assert right == pytest.approx(card.metrics["accuracy"], abs=1e-6)


def test_a_build_needs_the_weights_alone(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(f"models: {{d: {{weights: {digits}/best.safetensors}}}}", encoding="utf-8")
    outcome = build_repository(resolve(load_manifest(tmp_path / "models.yaml")), tmp_path / "repository")
    assert not outcome.failed
    assert outcome.built[0].trained
    labels = (tmp_path / "repository" / "d" / "1" / "labels.txt").read_text().splitlines()
    assert labels == (digits / "labels.txt").read_text().splitlines()
    assert 'key: "training_accuracy"' in (tmp_path / "repository" / "d_torchscript" / "config.pbtxt").read_text()


CONTRADICTIONS = {
    "network: alexnet_gray": "models.d.network: these weights were trained with lenet",
    "arguments: {num_classes: 4}": "models.d.arguments: these weights were trained with",
    "preprocess: {mean: [0.5]}": "models.d.preprocess.mean: these weights were trained with (0.0,)",
    "preprocess: {resize: [30, 30]}": "models.d.preprocess.resize",
    "preprocess: {orientation: stored}": "models.d.preprocess.orientation: these weights were trained with exif",
    "labels: [a, b, c, d, e, f, g, h, i, j]": "models.d.labels",
    "activation: none": "leave activation out",
}


@pytest.mark.parametrize("entry", CONTRADICTIONS)
def test_contradictions_are_refused(entry: str, digits: Path, tmp_path: Path) -> None:
    text = f"models:\n  d:\n    weights: {digits}/best.safetensors\n    {entry}\n"
    (tmp_path / "models.yaml").write_text(text, encoding="utf-8")
    try:
        (failure,) = build_repository(resolve(load_manifest(tmp_path / "models.yaml")), tmp_path / "repository").failed
        error: BuilderError = failure.error
    except ManifestError as caught:
        error = caught
    assert CONTRADICTIONS[entry] in str(error)


@pytest.mark.parametrize(
    "entry",
    [
        "network: lenet",
        "preprocess: {max_bytes: 1000, frames: first}",
        "arguments: {num_classes: 10}",
        "max_batch_size: 2",
    ],
)
def test_what_agrees_may_be_said(entry: str, digits: Path, tmp_path: Path) -> None:
    text = f"models:\n  d:\n    weights: {digits}/best.safetensors\n    {entry}\n    images: {digits}/heldout\n"
    (tmp_path / "models.yaml").write_text(text, encoding="utf-8")
    assert not build_repository(resolve(load_manifest(tmp_path / "models.yaml")), tmp_path / "repository").failed


def test_a_card_that_is_older_than_a_key_lets_the_entry_say_it(digits: Path, tmp_path: Path) -> None:
    for file in digits.glob("best.*"):
        shutil.copy(file, tmp_path)
    card = json.loads((tmp_path / "best.card.json").read_text(encoding="utf-8"))
    for key in ("orientation", "background", "channel_order", "frames"):
        del card["recipe"][key]
    (tmp_path / "best.card.json").write_text(json.dumps(card), encoding="utf-8")

    def recipe(entry: str) -> PreprocessRecipe:
        (tmp_path / "models.yaml").write_text(f"models: {{d: {{weights: best.safetensors{entry}}}}}", encoding="utf-8")
        (item,) = resolve(load_manifest(tmp_path / "models.yaml"))
        return resolve_recipe(item, make_network(item))

    assert recipe("").orientation == "exif"
    assert recipe(", preprocess: {orientation: stored}").orientation == "stored"
    with pytest.raises(ManifestError, match="mean: these weights were trained with"):
        recipe(", preprocess: {mean: [0.5]}")


def test_card_of_other_weights_is_refused(digits: Path, tmp_path: Path) -> None:
    for file in digits.glob("best.*"):
        shutil.copy(file, tmp_path)
    with (tmp_path / "best.safetensors").open("r+b") as weights:
        weights.seek(-1, os.SEEK_END)
        weights.write(b"\x7f")
    (tmp_path / "models.yaml").write_text("models: {d: {weights: best.safetensors}}", encoding="utf-8")
    (item,) = resolve(load_manifest(tmp_path / "models.yaml"))
    (failure,) = build_repository([item], tmp_path / "repository").failed
    assert isinstance(failure.error, WeightsError)
    assert "is not what best.card.json describes" in str(failure.error)
    (tmp_path / "best.card.json").write_text('{"card": 1}', encoding="utf-8")
    with pytest.raises(WeightsError, match="is not a card of weights"):
        resolve(load_manifest(tmp_path / "models.yaml"))


def test_other_weights_may_stand_in(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(f"models: {{d: {{weights: {digits}/best.safetensors}}}}", encoding="utf-8")
    (item,) = resolve(load_manifest(tmp_path / "models.yaml"), weights="random")
    assert item.spec.network == "lenet"
    (built,) = build_repository([item], tmp_path / "repository").built
    assert not built.trained


# --- the same result, however it came about ---


class Crash(Exception):
    pass


class CrashAt(Watcher):
    """The run ends as if by a fault, so many steps after it was taken up."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def advance(self, done: int) -> None:
        del done
        self._left -= 1
        if self._left == 0:
            raise Crash


# Dropout, batch normalisation, a random picture each time, momentum, and a rate that changes with each step.
EVENTFUL: dict[str, Any] = {
    "network": f"{NETWORKS}:small",
    "data.set": "image_folder",
    "data.workers": 0,
    "preprocess": {"channels": 3, "resize": 36, "crop": 32},
    "augment": {"flip": 0.5, "shift": 3, "colour": {"brightness": 0.2}},
    "optimizer": {"name": "sgd", "momentum": 0.9},
    "schedule": {"name": "cosine", "warmup_epochs": 1},
    "epochs": 3,
    "batch_size": 16,
    "lr": 0.05,
    "checkpoint_minutes": 1e-9,  # after every step
}


def eventful(out: Path, shapes: Path, watcher: Watcher | None = None, **changes: Any) -> Result:
    return train(load_run(None, EVENTFUL | {"data.root": str(shapes), "out": str(out)} | changes), watcher=watcher)


def outcome(out: Path) -> tuple[str, list[dict[str, str]]]:
    """The weights' hash and the log, without times."""
    rows = log(out)
    for row in rows:
        del row["seconds"], row["images_per_s"]
    return sha256(out / "best.safetensors"), rows


@pytest.fixture(scope="module")
def uninterrupted(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, str]]]:
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    eventful(out, shapes)
    return outcome(out)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.integers(1, 8), min_size=1, max_size=3))
def test_a_run_that_crashes_ends_as_if_it_had_not(
    steps: list[int], shapes: Path, uninterrupted: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("crashed") / "run"
    for number in steps:
        with pytest.raises(Crash):
            eventful(out, shapes, CrashAt(number))
    eventful(out, shapes)
    assert outcome(out) == uninterrupted


def test_workers_make_no_difference(shapes: Path, uninterrupted: Any, tmp_path: Path) -> None:
    eventful(tmp_path / "run", shapes, **{"data.workers": 2})
    assert outcome(tmp_path / "run") == uninterrupted


def test_another_seed_is_another_run(shapes: Path, uninterrupted: Any, tmp_path: Path) -> None:
    eventful(tmp_path / "run", shapes, seed=1)
    assert outcome(tmp_path / "run")[0] != uninterrupted[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_killed_goes_on(number: int, shapes: Path, uninterrupted: Any, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    said = {key: value for key, value in EVENTFUL.items() if "." not in key}
    said |= {"data": {"root": str(shapes), "workers": 0}, "out": "run"}
    config.write_text(json.dumps(said), encoding="utf-8")
    with started(command(config), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: process.poll() is not None or (tmp_path / "run" / "last.pt").exists(), 120, pause=0.005)
        time.sleep(random.random() * 0.2)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    # A fast machine may have finished.
    assert process.returncode in (0, -number if number == signal.SIGKILL else 128 + number)
    assert "Traceback" not in errors
    if process.returncode > 0:
        assert "goes on from the checkpoint" in errors
    train(load_run(config, {}))
    assert outcome(tmp_path / "run") == uninterrupted


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    options = ["--network", "lenet", "--data", "digits", "--epochs", "1", "--batch-size", "64", "--lr", "0.05"]
    options += ["--set", "optimizer=sgd", "--device", "cpu"]
    finished = build_repo_train(*options, "--out", tmp_path / "one")
    assert finished.returncode == 0, finished.stderr
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    both = subprocess.run(
        [*torchrun, "builder", "train", *options, "--out", str(tmp_path / "two")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert both.returncode == 0, both.stderr
    assert both.stdout.count("best: epoch 1") == 1  # one of them speaks
    one, two = (load_file(tmp_path / name / "best.safetensors") for name in ("one", "two"))
    for key in one:
        assert torch.allclose(one[key], two[key], atol=1e-4), key
    assert outcome(tmp_path / "one")[1][0]["accuracy"] == outcome(tmp_path / "two")[1][0]["accuracy"]


def test_a_finished_run_is_not_begun_again(digits: Path) -> None:
    before = (digits / "last.pt").stat().st_mtime_ns
    result = run(digits, samples__heldout=20, samples__calibration=10)
    assert result.resumed_at == 3
    assert result.best["epoch"] == 2
    assert (digits / "last.pt").stat().st_mtime_ns == before


def test_a_run_can_be_prolonged_and_begun_anew(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "run")
    assert [record["epoch"] for record in run(tmp_path / "run", epochs=3).history] == [1, 2, 3]
    with pytest.raises(TrainingError, match=r"other settings \(batch_size, lr\).*--fresh"):
        run(tmp_path / "run", lr=0.1, batch_size=32)
    assert len(run(tmp_path / "run", fresh=True, epochs=1, lr=0.1, batch_size=32).history) == 1


# --- transfer ---


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a ResNet-18 of 1000 classes, as a file that somebody has."""
    from torchvision.models import resnet18

    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("teacher") / "resnet18.pth"
    torch.save(resnet18().state_dict(), path)
    return path


TRANSFER: dict[str, Any] = {
    "network": "resnet18",
    "data.set": "image_folder",
    "data.workers": 0,
    "preprocess": {"resize": 64, "crop": 64},
    "learn": "head",
    "epochs": 2,
    "batch_size": 16,
    "lr": 0.01,
    "class_weights": "balanced",
}


def transfer(out: Path, shapes: Path, teacher: Path, **changes: Any) -> dict[str, torch.Tensor]:
    said = TRANSFER | {"data.root": str(shapes), "weights": str(teacher), "out": str(out)} | changes
    train(load_run(None, said))
    state: dict[str, torch.Tensor] = torch.load(out / "last.pt", weights_only=True)["module"]
    return state


def test_only_the_new_head_learns(shapes: Path, teacher: Path, tmp_path: Path) -> None:
    before = torch.load(teacher, weights_only=True)
    after = transfer(tmp_path / "run", shapes, teacher)
    assert after["fc.weight"].shape == (3, 512)
    for key in before:
        if not key.startswith("fc."):
            assert torch.equal(before[key], after[key]), key  # the averages of the batch normalisation included
    card = Card.model_validate_json((tmp_path / "run" / "best.card.json").read_text(encoding="utf-8"))
    assert card.labels == SHAPES
    assert card.recipe.crop == (64, 64)
    assert card.recipe.mean == (0.485, 0.456, 0.406)


def test_the_rest_learns_from_the_epoch_it_is_unfrozen_in(shapes: Path, teacher: Path, tmp_path: Path) -> None:
    before = torch.load(teacher, weights_only=True)
    said = {"unfreeze": {"epoch": 2, "lr": 0.001}}
    after = transfer(tmp_path / "one", shapes, teacher, **said, epochs=1)
    assert torch.equal(before["conv1.weight"], after["conv1.weight"])
    after = transfer(
        tmp_path / "one", shapes, teacher, **said, epochs=2
    )  # taken up: that epoch is the first of this run
    assert not torch.equal(before["conv1.weight"], after["conv1.weight"])
    again = transfer(tmp_path / "two", shapes, teacher, **said, epochs=2)
    assert all(torch.equal(after[key], again[key]) for key in after)


HEADS = ["alexnet", "vgg16", "googlenet", "squeezenet1_0", "mobilenet_v3_small", "vit_b_16", "swin_t", "maxvit_t"]


@pytest.mark.parametrize(
    "name", [name if name in HEADS else pytest.param(name, marks=pytest.mark.slow) for name in torchvision.names()]
)
def test_the_last_layer_is_what_new_classes_replace(name: str) -> None:
    request = NetworkRequest(name, WeightsSource("random", "random"), {"num_classes": 7})
    with contextlib.nullcontext() if name.startswith("regnet") else torch.device("meta"):
        module = torchvision.make(request).module
    parameters = dict(module.named_parameters())
    assert {parameters[key].shape[0] for key in trainable.last_layer(module)} == {7}


def test_shapes_can_be_told_apart(tmp_path: Path) -> None:
    """A network of one's own, learnt from JPEG files, better than by chance; and built as it is."""
    shutil.copy(NETWORKS, tmp_path / "small.py")
    shapes = write_shapes(tmp_path / "shapes", 60)
    said = {
        "network": "small.py:small", "data": {"root": str(shapes)}, "epochs": 25, "batch_size": 16, "lr": 0.01,
        "preprocess": {"channels": 1, "resize": 48, "crop": 48}, "arguments": {"channels": 1}, "out": "runs/shapes",
        "schedule": "onecycle",
    }  # fmt: skip
    (tmp_path / "shapes.yaml").write_text(json.dumps(said), encoding="utf-8")
    result = train(load_run(tmp_path / "shapes.yaml", {}))
    assert result.best["accuracy"] >= 0.6
    card = json.loads((tmp_path / "runs/shapes/best.card.json").read_text(encoding="utf-8"))
    assert card["network"] == "../../small.py:small"
    moved = shutil.move(tmp_path, tmp_path.with_name(tmp_path.name + " moved"))
    (moved / "models.yaml").write_text("models: {s: {weights: runs/shapes/best.safetensors}}", encoding="utf-8")
    assert build_repository(resolve(load_manifest(moved / "models.yaml")), moved / "repository").built


def test_patience_ends_a_run(tmp_path: Path) -> None:
    result = run(tmp_path / "run", epochs=50, lr=1e-9, patience=2, best="accuracy")
    assert result.stopped_early
    assert len(result.history) == result.best["epoch"] + 2


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10)), min_size=1, max_size=20),
    st.sampled_from(["accuracy", "loss"]),
)
def test_the_best_is_the_best(epochs: list[tuple[float, float]], by: str) -> None:
    best: dict[str, float] = {}
    for accuracy, loss in epochs:
        record = {"accuracy": accuracy, "loss": loss}
        if is_better(record, best, by):
            best = record
    assert best[by] == (max(a for a, _ in epochs) if by == "accuracy" else min(loss for _, loss in epochs))


# --- the second article ---


def test_the_articles_run_on_files_of_its_form(tmp_path: Path) -> None:
    root = write_fashion(tmp_path / "data", 48, 20)
    options = ["--network", "alexnet_gray", "--data", "fashion_mnist", "--root", root, "--epochs", "1"]
    finished = build_repo_train(*options, "--batch-size", "16", "--lr", "0.001", "--out", tmp_path / "run")
    assert finished.returncode == 0, finished.stderr
    line = finished.stdout.splitlines()[0]
    assert line.startswith("epoch 1, loss ")
    assert ", train acc " in line
    assert ", test acc " in line
    card = json.loads((tmp_path / "run" / "best.card.json").read_text(encoding="utf-8"))
    assert card["labels"][9] == "Ankle boot"
    assert card["recipe"]["resize"] == [224, 224]
    assert card["training"]["optimizer"]["name"] == "adam"
    network = alexnet_gray()
    network.load_state_dict(load_file(tmp_path / "run" / "best.safetensors"))


@pytest.mark.parametrize("folder", [".", "raw", "FashionMNIST/raw"])
def test_idx_files_are_read_where_they_lie(folder: str, tmp_path: Path) -> None:
    write_fashion(tmp_path / folder, 30, 20)
    split = datasets.find("fashion_mnist").load(Data(set="fashion_mnist", root=tmp_path), Path(), 0)
    assert (len(split.train), len(split.heldout)) == (30, 20)
    picture = split.train.image(3, PreprocessRecipe(channels=1, resize=(28, 28)))
    assert picture.size == (28, 28)
    assert picture.getpixel((2 + 2 * 3 + 1, 14)) == 220
    assert split.train.classes[3] == 3


def fashion_trouble(root: Path, change: Callable[[Path], None], **options: Any) -> str:
    write_fashion(root, 10, 10)
    change(root)
    with pytest.raises(DataError) as caught:
        datasets.find("fashion_mnist").load(Data(set="fashion_mnist", root=root, **options), Path(), 0)
    return str(caught.value)


def test_damaged_idx_files_are_refused(tmp_path: Path) -> None:
    name = "train-images-idx3-ubyte"

    def cut(root: Path) -> None:
        (root / name).write_bytes((root / name).read_bytes()[:-5])

    assert "is cut short" in fashion_trouble(tmp_path / "a", cut)
    assert "not an IDX file" in fashion_trouble(tmp_path / "b", lambda root: (root / name).write_bytes(b"PNG"))
    missing = fashion_trouble(tmp_path / "c", lambda root: (root / name).unlink(), download=False)
    assert f"{name}.gz is not in {tmp_path / 'c'}" in missing
    labels = "train-labels-idx1-ubyte"
    short = fashion_trouble(tmp_path / "d", lambda root: (root / labels).write_bytes(idx(np.zeros(9))))
    assert "10 images and 9 labels" in short
    beyond = fashion_trouble(tmp_path / "e", lambda root: (root / labels).write_bytes(idx(np.full(10, 77))))
    assert "labels beyond the 10 classes" in beyond


def test_compressed_files_must_be_the_published_ones(tmp_path: Path) -> None:
    write_fashion(tmp_path, 10, 10, compressed=True)
    with pytest.raises(DataError, match="wrong checksum"):
        datasets.find("fashion_mnist").load(Data(set="fashion_mnist", root=tmp_path), Path(), 0)


def test_without_a_network_one_is_told_where_to_put_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(DataError, match=f"cannot be downloaded to {tmp_path}.*Put train-images-idx3-ubyte.gz"):
        datasets.find("fashion_mnist").load(Data(set="fashion_mnist", root=tmp_path), Path(), 0)


# --- what a user can do wrong ---


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_configuration_is_refused_with_file_line_and_key(path: Path, tmp_path: Path) -> None:
    """The first line of each file says what the message must hold, in parts."""
    with pytest.raises(ManifestError) as caught:
        train(load_run(path, {"out": str(tmp_path / "run")}))
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    for part in path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").split(" | "):
        assert part in message


def spoilt(shapes: Path, tmp_path: Path, change: Callable[[Path], object], **said: Any) -> str:
    shutil.copytree(shapes, tmp_path / "data")
    change(tmp_path / "data")
    with pytest.raises(BuilderError) as caught:
        eventful(tmp_path / "run", tmp_path / "data", **said)
    return f"{type(caught.value).__name__}: {caught.value}"


BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "broken": (lambda d: (d / "square" / "003.jpg").write_bytes(b"\xff\xd8 no"), "square/003.jpg cannot be decoded"),
    "cut short": (
        lambda d: (d / "circle" / "000.jpg").write_bytes((d / "circle" / "000.jpg").read_bytes()[:900]),
        "1 of 48 images cannot be used; mend or remove them:",
    ),
    "empty class": (lambda d: (d / "star").mkdir(), "classes without images: star"),
    "one class": (lambda d: [shutil.rmtree(d / name) for name in SHAPES[1:]], "has 1 folders"),
    "one image": (lambda d: [f.unlink() for f in sorted((d / "square").iterdir())[1:]], "'square' has 1 images"),
    "no folder": (lambda d: shutil.rmtree(d), "is not a folder"),
    "strange class": (
        lambda d: [shutil.move(d, d.with_name("x")), d.mkdir(), shutil.move(d.with_name("x"), d / "train"),
                   (d / "val" / "star").mkdir(parents=True)],
        "has classes that are not trained: star",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_bad_folders_are_told(name: str, shapes: Path, tmp_path: Path) -> None:
    change, expected = BAD_FOLDERS[name]
    message = spoilt(shapes, tmp_path, change)
    is_of_folder = "cannot be" not in expected
    assert message.startswith("DataError: data image_folder: " if is_of_folder else "DataError: ")
    assert expected in message


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_breaks_under_way_keeps_the_checkpoint(workers: int, shapes: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes, tmp_path / "data")

    class Break(Watcher):
        def epoch(self, record: dict[str, float]) -> None:
            if record["epoch"] == 1:
                for file in (tmp_path / "data" / "circle").iterdir():
                    file.write_bytes(b"x" * file.stat().st_size)

    with pytest.raises(DataError, match=r"^\S+circle/\d+.jpg cannot be decoded: .*; mend or remove it$"):
        eventful(tmp_path / "run", tmp_path / "data", Break(), **{"data.workers": workers})
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert len(state["progress"]["history"]) == 1


def test_channels_that_do_not_match_are_told(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"fails on 1x32x32 images: .*channels.*correct `preprocess:`"):
        eventful(tmp_path / "run", shapes, preprocess={"channels": 1, "resize": 36, "crop": 32})


def test_weights_of_another_network_are_told(shapes: Path, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(BuilderError, match=r"does not fit the network|fit .* in more than the last layer"):
        transfer(tmp_path / "run", shapes, teacher, network="resnet34")


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    run(tmp_path / "run", epochs=1, lr=0.01, optimizer="sgd")
    weights = sha256(tmp_path / "run" / "best.safetensors")
    with pytest.raises(TrainingError, match=r"no number any more, in epoch 1 by step \d+.*Lower lr"):
        run(tmp_path / "other", lr=1e30, optimizer="sgd")
    assert not (tmp_path / "other" / "last.pt").exists()
    assert sha256(tmp_path / "run" / "best.safetensors") == weights


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    run(tmp_path / "run", epochs=1)
    before = (tmp_path / "run" / "last.pt").read_bytes()

    def limit() -> None:
        """No file may grow beyond what the weights need; a checkpoint is three times as large."""
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    arguments = [word for key, value in DIGITS.items() for word in ("--set", f"{key}={value}")]
    words = command(*arguments, "--out", tmp_path / "run")
    finished = subprocess.run(words, capture_output=True, text=True, timeout=300, preexec_fn=limit)
    assert finished.returncode == TrainingError.exit_code, finished.stderr
    assert "last.pt cannot be written" in finished.stderr
    assert "the one before it is kept" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert (tmp_path / "run" / "last.pt").read_bytes() == before
    assert not list((tmp_path / "run").glob(".*.partial"))
    assert [record["epoch"] for record in run(tmp_path / "run").history] == [1, 2]


def test_a_decoding_process_that_is_killed_is_told(shapes: Path, tmp_path: Path) -> None:
    class Kill(Watcher):
        def advance(self, done: int) -> None:
            own = Path("/proc/self/cmdline").read_bytes()  # a fork's is the same; those of the tests' servers are not
            for child in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
                if done == 1 and Path(f"/proc/{child}/cmdline").read_bytes() == own:
                    os.kill(int(child), signal.SIGKILL)

    with pytest.raises(TrainingError, match="a process that decodes images was ended"):
        eventful(tmp_path / "run", shapes, Kill(), **{"data.workers": 1, "data.check": False, "batch_size": 4})
    eventful(tmp_path / "run", shapes, **{"data.workers": 1, "data.check": False, "batch_size": 4})


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    class Second(Watcher):
        def epoch(self, record: dict[str, float]) -> None:
            del record
            finished = build_repo_train("--network", "lenet", "--data", "digits", "--out", tmp_path / "run")
            assert finished.returncode == TrainingError.exit_code
            assert "another run is writing" in finished.stderr

    run(tmp_path / "run", Second(), epochs=1)


def test_a_damaged_checkpoint_is_told(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "run")
    (tmp_path / "run" / "last.pt").write_bytes(b"PK no")
    with pytest.raises(TrainingError, match=r"last.pt cannot be read.*--fresh"):
        run(tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["none.yaml"], 3, "none.yaml does not exist"),
        ([], 3, "network: is needed"),
        (["--network", "lenet", "--lr", "-1"], 3, "lr: Input should be greater than 0"),
        (["--network", "lenet", "--set", "nonsense"], 3, "it takes KEY=VALUE"),
        (["--network", "lenet", "--set", "nonsense=1"], 3, "nonsense"),
        (["--network", "lenet"], 15, "image_folder needs `root: DIR` or --root DIR"),
        (["--network", "lenet", "--data", "digits", "--device", "gpu"], 14, "PyTorch sees none here"),
        (["--network", "lenet", "--data", "none.py:make"], 15, "none.py does not exist"),
    ],
)
def test_mistakes_on_the_command_line(arguments: list[str], code: int, expected: str, tmp_path: Path) -> None:
    if "gpu" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    finished = build_repo_train(*arguments, cwd=tmp_path)
    assert finished.returncode == code, finished.stderr
    assert expected in finished.stderr
    assert "Traceback" not in finished.stderr


def test_json_has_a_line_an_epoch(tmp_path: Path) -> None:
    arguments = ["--network", "lenet", "--data", "digits", "--epochs", "2", "--json", "--set", "clip=1.0"]
    finished = build_repo_train(*arguments, "--out", tmp_path / "run")
    lines = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [line.get("epoch") for line in lines] == [1, 2, None]
    assert lines[2]["weights"] == str(tmp_path / "run" / "best.safetensors")
    assert lines[2]["best"]["accuracy"] == max(lines[0]["accuracy"], lines[1]["accuracy"])
    assert finished.stderr == ""


# --- sets of one's own ---

OWN = """
from pathlib import Path
from PIL import Image

class Ramp:
    classes = ["dark", "light"]
    def __init__(self, count): self.count = count
    def __len__(self): return self.count
    def __getitem__(self, i): return Image.new("RGB", (8, 8), (30, 30, 30) if i % 2 == 0 else (220, 220, 220)), i % 2

def whole(): return Ramp(20)
def parted(): return Ramp(20), Ramp(6)
def files(root): return [(root / f"{i}.png", i) for i in range(2) for _ in range(3)]
def tensors(): return [(1.5, 0)] * 4 + [(1.5, 1)] * 4
def nothing(): return []
def fails(): raise RuntimeError("no luck")
def number(): return 5
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    for number, grey in enumerate((20, 230)):
        Image.new("L", (9, 9), grey).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize(("name", "sizes"), [("whole", (16, 4)), ("parted", (20, 6)), ("files", (4, 2))])
def test_sets_of_ones_own(name: str, sizes: tuple[int, int], own: Path) -> None:
    root = Path() if name == "files" else None
    split = datasets.find(f"own.py:{name}").load(Data(set=f"own.py:{name}", root=root), own, 0)
    assert (len(split.train), len(split.heldout)) == sizes
    assert split.labels == (("dark", "light") if name != "files" else ("0", "1"))
    recipe = PreprocessRecipe(channels=1, resize=(8, 8))
    for i in range(len(split.train)):
        assert (split.train.image(i, recipe).getpixel((0, 0)) > 128) == bool(split.train.classes[i])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nothing", "gave no images"),
        ("fails", "RuntimeError: no luck"),
        ("number", "gave a int"),
        ("tensors", "is a float; give files or Pillow images"),
    ],
)
def test_bad_sets_of_ones_own(name: str, expected: str, own: Path) -> None:
    def first() -> Image.Image:
        split = datasets.find(f"own.py:{name}").load(Data(set=f"own.py:{name}"), own, 0)
        return split.train.image(0, PreprocessRecipe(channels=1, resize=(8, 8)))

    with pytest.raises(DataError, match=expected):
        first()


# --- rules that hold for all ---


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 4), st.integers(0, 2**32), st.integers(1, 5))
def test_every_image_is_shown_once_an_epoch(count: int, share: int, world: int, seed: int, epoch: int) -> None:
    size = share * world
    taken = []
    for rank in range(world):
        batches = Batches(count, size, seed, rank, world)
        batches.epoch = epoch
        taken.append(list(batches))
    assert len({tuple(map(len, shares)) for shares in taken}) == 1  # in step
    shown = [number for shares in taken for batch in shares for _, number in batch]
    assert set(shown) == set(range(count))
    assert len(shown) - count < world  # only to make the last step even


@given(st.integers(1, 100), st.integers(1, 20), st.integers(0, 10), st.integers(0, 99))
def test_a_resumed_epoch_has_the_batches_that_are_left(count: int, size: int, start: int, seed: int) -> None:
    whole, rest = Batches(count, size, seed), Batches(count, size, seed)
    rest.start = start
    assert list(rest) == list(whole)[start:]


@given(st.integers(1, 100), st.integers(1, 20), st.integers(1, 4))
def test_heldout_images_are_each_judged_once(count: int, size: int, world: int) -> None:
    shown = [n for rank in range(world) for batch in Batches(count, size, None, rank, world) for _, n in batch]
    assert sorted(shown) == list(range(count))


@given(
    st.lists(st.integers(2, 30), min_size=2, max_size=6),
    st.floats(0.01, 0.99),
    st.integers(0, 2**32 - 1),
)
def test_each_class_is_held_out_in_part(sizes: list[int], share: float, seed: int) -> None:
    classes = [number for number, size in enumerate(sizes) for _ in range(size)]
    train_, heldout = stratified(classes, share, seed, [str(i) for i in range(len(sizes))])
    assert sorted(train_ + heldout) == list(range(len(classes)))
    for number, size in enumerate(sizes):
        count = sum(classes[i] == number for i in heldout)
        assert 1 <= count < size
        assert abs(count - size * share) <= 1


schedules = st.fixed_dictionaries(
    {"name": st.sampled_from(["constant", "cosine", "step"])}, optional={"warmup_epochs": st.floats(0, 4)}
) | st.just({"name": "onecycle"})


@given(schedules, st.integers(4, 100), st.data())
def test_rates_are_shares(schedule: dict[str, Any], epochs: int, chosen: st.DataObject) -> None:
    config = TrainingSpec.model_validate({"network": "lenet", "schedule": schedule, "epochs": epochs})
    done = chosen.draw(st.floats(0, epochs, exclude_max=True))
    assert 0 <= loop.rate(config, done) <= 1
    if schedule["name"] == "onecycle":
        assert loop.rate(config, 0) == pytest.approx(1 / 25)
        assert loop.rate(config, 0.3 * epochs) == pytest.approx(1)
        assert loop.rate(config, epochs) < 1e-5


AUGMENTED = Augment.model_validate(
    {"flip": 0.5, "vertical_flip": 0.2, "rotate": 10, "shift": 2, "erase": 0.5, "colour": {"hue": 0.1, "contrast": 0.3}}
)


def examples(augmentation: Augment, seed: int | None) -> Examples:
    pictures = [shape(SHAPES[i % 3], np.random.default_rng(i)) for i in range(6)]
    recipe = PreprocessRecipe(channels=3, resize=(40,), crop=(32, 32))
    transform = augment.training_transform(recipe, augmentation)
    return Examples(LabelledImages(pictures, [i % 3 for i in range(6)], as_mode), recipe, transform, seed)


def test_the_chance_of_a_picture_is_its_own() -> None:
    found = examples(AUGMENTED, 0)
    before = torch.get_rng_state()
    first = {key: found[key][0] for key in [(1, 0), (1, 1), (2, 0)]}
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    assert all(torch.equal(found[key][0], tensor) for key, tensor in reversed(first.items()))
    assert not torch.equal(first[1, 0], first[2, 0])
    assert not torch.equal(examples(AUGMENTED, 1)[1, 0][0], first[1, 0])


CHANCES = [
    {"resized_crop": (0.3, 1)}, {"flip": 0.5}, {"vertical_flip": 0.5}, {"rotate": 20}, {"shift": 3}, {"erase": 1},
    {"colour": {"brightness": 0.4}}, {"colour": {"contrast": 0.4}}, {"colour": {"saturation": 0.4}},
    {"colour": {"hue": 0.2}},
]  # fmt: skip


@pytest.mark.parametrize("chance", CHANCES, ids=str)
def test_each_augmentation_changes_pictures_and_no_shapes(chance: dict[str, Any]) -> None:
    plain = examples(Augment(), None)
    found = examples(Augment.model_validate(chance), 0)
    tensors = [found[epoch, 0][0] for epoch in range(12)]
    assert {tuple(tensor.shape) for tensor in tensors} == {(3, 32, 32)}
    assert any(not torch.equal(tensor, plain[1, 0][0]) for tensor in tensors)


def test_without_augmentation_pictures_are_trained_as_they_are_served() -> None:
    found = examples(Augment(), None)
    recipe = PreprocessRecipe(channels=3, resize=(40,), crop=(32, 32))
    assert torch.equal(found[5, 2][0], recipe.reference_transform()(found._images.image(2, recipe)))


@pytest.fixture(autouse=True)
def _threads_as_they_were() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_check_names_the_broken(shapes: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.jpg" for i in range(15)]
    for file in files:
        file.write_bytes(b"no image")
    pictures = LabelledImages([*shapes.rglob("*.jpg"), *files], [0] * 75, data.from_file, are_files=True)
    seen: list[int] = []
    with pytest.raises(DataError, match="15 of 75 images cannot be used") as caught:
        data.require_decodable(pictures, PreprocessRecipe(channels=3, resize=(8, 8)), seen.append)
    assert str(caught.value).endswith("and 5 more")
    assert seen[-1] == 75
