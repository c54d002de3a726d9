"""Which operators of an artifact a server can have."""

import zipfile
from pathlib import Path

import pytest

from builder.errors import ExportError
from builder.exporters.operators import FACT, of_package, required


def test_pytorchs_own_need_nothing() -> None:
    assert required(["aten::conv2d", "quantized::linear", "prim::Constant"]) == {}


def test_torchvisions_are_recorded() -> None:
    assert required(["aten::relu", "torchvision::nms", "torchvision::roi_align"]) == {FACT: "torchvision"}


def test_others_are_refused() -> None:
    with pytest.raises(ExportError, match="it calls mine::first, of a library that no server has"):
        required(["torchvision::nms", "mine::first", "mine::second"])


def test_packages_name_what_they_call(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as package:
        package.writestr("m/data/a.json", '{"nodes": [{"node": {"target": "torchvision::nms", "inputs": []}}]}')
        package.writestr("m/data/b.cpp", '"target": "not::looked_at"')
    assert of_package(tmp_path / "model.pt2") == {"torchvision::nms"}
