"""Training with networks and images as people have them: learnt from, or refused before anything is written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_sets import write_shapes

from builder.errors import BuilderError, DataError, ManifestError, NetworkError, TrainingError
from builder.training import checkpoint
from builder.training.data import Batches
from builder.training.loop import AUXILIARY_SHARE
from builder.training.run import Result, Watcher, train
from builder.training.spec import load_run
from builder.util.hashing import sha256

NETWORKS = Path(__file__).parent / "networks" / "learning.py"
LATIN_1 = os.fsdecode(b"caf\xe9")


class Told(Watcher):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def run(
    out: Path, root: Path, network: str = "Head", watcher: Watcher | None = None, file: Path = NETWORKS, **changes: Any
) -> Result:
    said = {
        "network": f"{file}:{network}", "data": {"root": str(root), "workers": 0}, "epochs": 1, "batch_size": 8,
        "preprocess": {"channels": 3, "resize": [16, 16]}, "out": str(out),
    }  # fmt: skip
    return train(load_run(None, said | changes), watcher=watcher)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 images, of which 8 a class are trained with: look, do not touch."""
    return write_shapes(tmp_path_factory.mktemp("shapes") / "shapes", 10, side=24)


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """17 images to train with and one that is held out: look, do not touch."""
    root = tmp_path_factory.mktemp("apart")
    write_shapes(root / "train", [5, 6, 6], side=24)
    write_shapes(root / "val", [0, 1, 0], side=24)
    return root


# --- batches ---


@pytest.mark.parametrize("size", [23, 8, 24, 2, 100])
def test_batch_normalisation_learns_from_any_number_of_images(size: int, images: Path, tmp_path: Path) -> None:
    """24 are trained with; with batches of 23, one is left over."""
    assert run(tmp_path / "run", images, batch_size=size).weights.exists()


def test_a_single_image_joins_the_batch_before_it() -> None:
    batches = Batches(9, 4, seed=1)
    assert [len(batch) for batch in batches] == [4, 5]
    assert len(batches) == 2
    batches.start = 1
    assert [len(batch) for batch in batches] == [5]
    assert [len(batch) for batch in Batches(9, 4, seed=None)] == [4, 4, 1]
    assert [len(batch) for batch in Batches(1, 4, seed=1)] == [1]
    assert [len(batch) for batch in Batches(3, 1, seed=1)] == [1, 1, 1]
    assert [[len(batch) for batch in Batches(10, 4, 1, rank, world=2)] for rank in (0, 1)] == [[2, 3], [2, 3]]


def test_batches_of_one_are_told(images: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"Head fails while it trains: .*learning.py:\d+\).*raise batch_size"):
        run(tmp_path / "run", images, batch_size=1)
    assert not (tmp_path / "run" / checkpoint.BEST).exists()


def test_one_held_out_image_is_enough(apart: Path, tmp_path: Path) -> None:
    assert sum(map(sum, run(tmp_path / "run", apart).best["confusion"])) == 1


# --- networks ---


def test_auxiliary_scores_are_learnt_from(images: Path, tmp_path: Path) -> None:
    watcher = Told()
    run(tmp_path / "run", images, "Auxiliary", watcher)
    (told,) = [text for text in watcher.said if "auxiliary" in text]
    assert f"1 auxiliary scores are learnt from by a share of {AUXILIARY_SHARE}, 1 other outputs are left" in told
    before = load_file(run(tmp_path / "still", images, "Auxiliary", lr=1e-30).weights)
    after = load_file(tmp_path / "run" / checkpoint.BEST)
    assert not torch.equal(before["auxiliary.weight"], after["auxiliary.weight"])


def test_scores_are_found_by_their_names(images: Path, tmp_path: Path) -> None:
    """The same network, which gives the same by name or by place, learns the same."""
    results = [run(tmp_path / name, images, name) for name in ("Named", "Auxiliary")]
    assert len({sha256(result.weights) for result in results}) == 1


@pytest.mark.parametrize(
    ("network", "error", "expected"),
    [
        ("Featuring", TrainingError, r"gives a tuple for 8 images of 3 classes; one score a class is needed, first of"),
        ("Failing", TrainingError, r"Failing fails while it trains: KeyError: 'no such key' \(\S+learning.py:\d+\)"),
        ("Overwriting", TrainingError, "Overwriting fails while it trains: RuntimeError: one of the variables needed"),
    ],
)
def test_what_training_alone_meets_is_told(
    network: str, error: type[BuilderError], expected: str, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=expected):
        run(tmp_path / "run", images, network)
    assert not (tmp_path / "run" / checkpoint.LAST).exists()


def test_scores_without_the_images_dimension_are_told(apart: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"Squeezing gives \[3\] for 1 images of 3 classes"):
        run(tmp_path / "run", apart, "Squeezing")


def test_any_error_of_the_first_images_is_told(images: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__()\n"
        "        self.head = nn.Linear(1, num_classes)\n"
        "    def forward(self, x):\n"
        "        return self.body(x)\n"
    )
    with pytest.raises(NetworkError, match=r"Net fails on 3x16x16 images: .*no attribute 'body' \(.*net.py:7\)"):
        run(tmp_path / "run", images, "Net", file=tmp_path / "net.py")


# --- names, links and disks ---


def test_folders_that_are_no_labels_are_told_before_training(images: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "images")
    (tmp_path / "images" / "circle").rename(tmp_path / "images" / LATIN_1)
    with pytest.raises(DataError, match=r"no UTF-8, 'caf\\udce9', and so is no label; rename it"):
        run(tmp_path / "run", tmp_path / "images")
    assert not (tmp_path / "run" / checkpoint.BEST).exists()


def test_data_may_lie_in_any_folder_and_runs_in_those_with_text_for_names(images: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / LATIN_1)
    run(tmp_path / "run", tmp_path / LATIN_1)
    card = json.loads((tmp_path / "run" / "best.card.json").read_text(encoding="utf-8"))
    assert card["data"]["root"] == "caf\\udce9"
    with pytest.raises(ManifestError, match=r"out: the path .*caf\\udce9/run' is no UTF-8"):
        run(tmp_path / LATIN_1 / "run", images)


def test_class_folders_may_be_links(images: Path, tmp_path: Path) -> None:
    (tmp_path / "images" / "square").mkdir(parents=True)
    (tmp_path / "images" / "circle").symlink_to(images / "circle")
    (tmp_path / "images" / "square" / "more").symlink_to(images / "square")
    (tmp_path / "images" / "square" / "round").symlink_to(tmp_path / "images")  # which leads nowhere new
    run(tmp_path / "run", tmp_path / "images")
    card = json.loads((tmp_path / "run" / "best.card.json").read_text(encoding="utf-8"))
    assert (card["labels"], card["data"]["train"] + card["data"]["heldout"]) == (["circle", "square"], 20)


def test_files_that_belong_together_are_written_together(tmp_path: Path) -> None:
    """A disk that is full between weights and card leaves those of before."""
    weights, card = tmp_path / "w", tmp_path / "c"
    checkpoint.write_together({weights: lambda path: path.write_text("1"), card: lambda path: path.write_text("1")})

    def full(path: Path) -> None:
        path.write_text("")
        raise OSError(28, "No space left on device")

    with pytest.raises(
        TrainingError, match=r"/c cannot be written: No space left on device; the one before it is kept"
    ):
        checkpoint.write_together({weights: lambda path: path.write_text("2"), card: full})
    assert (weights.read_text(), card.read_text()) == ("1", "1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "w"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epochs=[[[", "--set epochs: not valid YAML"),
        ("lr=" + "9" * 5000, "--set lr: a number of 5000 digits"),
        ("x=" + "[" * 3000, "--set x: more than 100 levels"),
        ("network.x=2", "network: has no keys, such as x"),
        ("data.set=2024-02-31", "there is no data set '2024-02-31'"),
        ('labels=["\\ud800", b]', "--set labels: a zero byte or half a character"),
        ("arguments.since=1", "lenet has no such argument; it takes num_classes"),
    ],
)
def test_odd_values_on_the_command_line(text: str, expected: str, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from builder.cli import app

    options = ["train", "--network", "lenet", "--data", "digits", "--out", str(tmp_path / "run"), "--set", text]
    result = CliRunner().invoke(app, options)
    assert isinstance(result.exception, ManifestError)
    assert expected in str(result.exception)


def test_extra_state_is_told_before_the_first_step(images: Path, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"keeps extra state \(head._extra_state\)"):
        run(tmp_path / "run", images, network="Noted")
    assert not list((tmp_path / "run").glob("best.*"))
