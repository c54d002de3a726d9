"""The page of `build-repo check`: its example is what the program says."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto, helper, save
from page_blocks import ROOT, of_page
from test_cli import build_repo

PAGE = ROOT / "docs" / "check.md"


def write_onnx(file: Path) -> None:
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *dims])
        for name, dims in (("input", (3, 224, 224)), ("probabilities", (1000,)))
    ]
    node = helper.make_node("Flatten", ["input"], ["probabilities"])
    save(helper.make_model(helper.make_graph([node], "g", tensors[:1], tensors[1:])), file)


def test_the_example_is_what_is_printed(tmp_path: Path) -> None:
    resnet, detector, printed = (block.text for block in of_page(PAGE) if block.kind == "text")
    for name, config in (("resnet", resnet), ("detector", detector)):
        version = tmp_path / "models" / name / "1"
        version.mkdir(parents=True)
        write_onnx(version / "model.onnx")
        (version.parent / "config.pbtxt").write_text(config)
    done = build_repo("check", "models", cwd=tmp_path)
    assert done.stdout.rstrip() == printed.rstrip(), done.stdout
