"""A task, a format and a step are each one new file and one line: here they come from outside of the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import ANY_PORTS, build
from outside import as_source, estimates, numbers_in_text

from builder.errors import ManifestError
from builder.exporters import EXPORTERS
from builder.launchers import LAUNCHERS
from builder.repository.served import read_repository
from builder.schemas import models
from builder.steps import STEPS
from builder.tasks import TASKS
from client import Client

NETWORK = """
import torch


def price():
    layer = torch.nn.Linear(3, 1)
    layer.weight.data, layer.bias.data = torch.tensor([[2.0, 3.0, 5.0]]), torch.tensor([7.0])
    return layer
"""
MANIFEST = """
models:
  price:
    task: estimates
    network: nets.py:price
    weights: included
    format: {format}
    lines: ["10, 20, 30", "0, 0, 0", "1, -1, 4"]
    scale: 10
"""


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "estimates", estimates)
    monkeypatch.setitem(EXPORTERS, "as_source", as_source)
    monkeypatch.setitem(STEPS, "numbers_in_text", numbers_in_text)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("format_name", ["as_source", "onnx", "torchscript"])
def test_they_build_and_serve(format_name: str, tmp_path: Path) -> None:
    """Ten seconds each: a server is started."""
    (tmp_path / "nets.py").write_text(NETWORK)
    (built,) = build(tmp_path, MANIFEST.format(format=format_name))
    assert (built.version, built.classes, built.format) == (1, None, format_name)
    (served,) = read_repository(tmp_path / "repository")
    assert served.task == "estimates"
    server = LAUNCHERS["embedded"].launch(tmp_path / "repository", ANY_PORTS)
    try:
        with Client(server.endpoints.grpc) as client:
            lines = np.array([[b"10, 20, 30"], [b"1,2,3"]], np.object_)
            answer = client.infer("price", {"LINE": lines})
            assert client.model("price").task == "estimates"
        assert np.allclose(answer["ESTIMATE"], [[2 + 6 + 15 + 7], [0.2 + 0.6 + 1.5 + 7]])
    finally:
        server.stop()


@pytest.mark.usefixtures("registered")
def test_its_keys_are_known_and_its_mistakes_told_by_line(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETWORK)
    text = MANIFEST.format(format="as_source")
    with pytest.raises(ManifestError, match=r"models\.yaml:8: models\.price\.lines: all lines must"):
        build(tmp_path, text.replace('"0, 0, 0"', '"0, 0"').replace("    lines:", "    lines:"))
    with pytest.raises(ManifestError, match="unknown key; did you mean 'scale'"):
        build(tmp_path, text.replace("scale:", "scael:"))
    assert "Estimates" in models.schema()["$defs"]


def test_a_task_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"models\.price\.task: there is no such task; choose classification"):
        build(tmp_path, MANIFEST.format(format="onnx"))
