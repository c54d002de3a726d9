"""A data set of training is one module and one line in DATASETS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from builder import schemas
from builder.cli import app
from builder.errors import ManifestError
from builder.training import datasets
from builder.training.data import LabelledImages, Split, as_mode
from builder.training.spec import Data

SMALL = f"{Path(__file__).parent / 'networks' / 'small.py'}:small"


class Squares:
    """In the place of a module of somebody else's: dark squares, and bright ones."""

    def __init__(self) -> None:
        self.asked: list[tuple[Data, Path, int]] = []

    def load(self, data: Data, base: Path, seed: int) -> Split:
        self.asked.append((data, base, seed))
        images = LabelledImages(
            [Image.new("RGB", (40, 40), (level,) * 3) for level in (0, 250) * 8], [0, 1] * 8, as_mode
        )
        return Split("squares", images.subset(range(12)), images.subset(range(12, 16)), ("dark", "bright"), "a digest")


@pytest.fixture
def squares() -> Iterator[Squares]:
    data_set = Squares()
    datasets.DATASETS["squares"] = data_set
    yield data_set
    del datasets.DATASETS["squares"]


def test_a_data_set_of_somebody_elses_is_trained_with(squares: Squares, tmp_path: Path) -> None:
    arguments = ["train", "--network", SMALL, "--data", "squares", "--out", tmp_path / "run", "--epochs", 1, "--json"]
    arguments += ["--seed", 3, "--device", "cpu", "--set", "preprocess={channels: 3, resize: 36, crop: 32}"]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    assert [(data.set, seed) for data, _, seed in squares.asked] == [("squares", 3)]
    card: dict[str, Any] = json.loads((tmp_path / "run" / "best.card.json").read_text())
    assert card["labels"] == ["dark", "bright"]
    assert card["data"] == {"name": "squares", "train": 12, "heldout": 4, "sha256": "a digest"}


@pytest.mark.usefixtures("squares")
def test_its_name_is_known_wherever_names_are() -> None:
    with pytest.raises(ManifestError, match=r"no data set 'circles'; choose .*squares, or your own"):
        datasets.find("circles")
    assert "squares" in json.dumps(schemas.SCHEMAS["training"]()["$defs"]["Data"]["properties"]["set"])


def test_help_names_those_that_there_are() -> None:
    text = " ".join(CliRunner().invoke(app, ["train", "--help"]).stdout.split())
    assert f"{', '.join(datasets.own_names())}, or your own." in text
