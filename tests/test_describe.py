"""build-repo describe."""

import json
import subprocess

import pytest
import warm
from conftest import NETWORKS

from builder import networks
from builder.errors import NetworkError
from builder.networks.describe import describe, parse_shape

QUICK = ["alexnet", "vgg16", "googlenet", "resnet18", "squeezenet1_1", "vit_b_16", "fcn_resnet50"]


def build_repo_describe(*arguments: str) -> subprocess.CompletedProcess[str]:
    return warm.run("builder", "describe", *arguments)


def test_the_second_articles_table() -> None:
    found = describe("alexnet_gray", (1, 224, 224))
    shapes = [layer.output for layer in found.layers if layer.kind.startswith(("Conv", "MaxPool"))]
    assert shapes == [
        (96, 54, 54), (96, 26, 26), (256, 26, 26), (256, 12, 12), (384, 12, 12), (384, 12, 12), (256, 12, 12),
        (256, 5, 5),
    ]  # fmt: skip
    linear = [layer for layer in found.layers if layer.kind.startswith("Linear")]
    assert [(layer.input, layer.output) for layer in linear] == [
        ((6400,), (4096,)),
        ((4096,), (4096,)),
        ((4096,), (10,)),
    ]


def every(name: str) -> pytest.param:  # type: ignore[valid-type]
    return pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)


@pytest.mark.parametrize("name", [every(name) for name in networks.all_names()])
def test_totals_are_those_that_are_published(name: str) -> None:
    facts = networks.find(name).facts(name)
    # Those that are published have the classifier of their training with them, which nobody serves.
    has_auxiliary = facts.task == "segmentation" and not name.startswith("lraspp")
    found = describe(name, arguments={"aux_loss": True} if has_auxiliary else None)
    assert facts.gflops
    if facts.task == "detection":  # published with constants for batch normalisation, and for pictures of other sizes
        assert found.parameters == pytest.approx(facts.parameters, rel=0.01)
    else:
        assert found.parameters == facts.parameters
        assert found.multiply_adds / 1e9 == pytest.approx(facts.gflops, rel=0.02, abs=0.0005)
    assert sum(layer.parameters for layer in found.layers) <= found.parameters
    assert sum(layer.multiply_adds for layer in found.layers) <= found.multiply_adds


def test_layers_add_up() -> None:
    found = describe(f"{NETWORKS}:small", (3, 32, 32))
    assert sum(layer.parameters for layer in found.layers) == found.parameters == 627


def test_table_and_json() -> None:
    table = build_repo_describe("alexnet_gray", "--input", "1x224x224")
    assert table.returncode == 0, table.stderr
    lines = table.stdout.splitlines()
    assert lines[0].split() == ["LAYER", "MODULE", "INPUT", "OUTPUT", "PARAMETERS", "MULTIPLY-ADDS"]
    assert lines[-1].split() == ["total", "alexnet_gray", "1x224x224", "46,764,746", "938,146,176"]
    told = json.loads(build_repo_describe("alexnet_gray", "--json").stdout)
    assert told["layers"][-1]["output"] == [10]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["alexnett"], "did you mean alexnet"),
        (["alexnet", "--input", "224"], "it takes CHANNELSxHEIGHTxWIDTH"),
        (["alexnet", "--input", "3x0x9"], "it takes CHANNELSxHEIGHTxWIDTH"),
        (["alexnet", "--input", "3x20x20"], "alexnet fails on 3x20x20 images"),
        (["alexnet", "--input", "1x224x224"], "alexnet fails on 1x224x224 images"),
        ([f"{NETWORKS}:small"], "give --input"),
        (["none.py:small"], "none.py does not exist"),
    ],
)
def test_mistakes(arguments: list[str], expected: str) -> None:
    finished = build_repo_describe(*arguments)
    assert finished.returncode == NetworkError.exit_code
    assert expected in finished.stderr
    assert "Traceback" not in finished.stderr


def test_shapes() -> None:
    assert parse_shape("3X224x112") == (3, 224, 112)
