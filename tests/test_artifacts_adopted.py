"""What becomes of artifacts on the way into a repository: what the runtimes compute with them is the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from artifact_files import (
    IMAGE,
    PIXELS,
    scores,
    write_onnx,
    written,
)
from conftest import build
from onnx import TensorProto, helper, numpy_helper

from builder.check import target as targets
from builder.check.run import CheckOptions, check_repository
from builder.errors import ExportError
from builder.exporters.adopting import ADOPTERS
from builder.exporters.interfaces import interface
from builder.machine.cores import granted_cores
from builder.triton.interface import ToldTensor
from builder.triton.signature import TensorSpec
from builder.types import AdoptRequest, Target

__all__ = ["written"]


def adopt(source: Path, format_name: str, folder: Path, precision: str = "fp32", **more: Any) -> Path:
    folder.mkdir()
    path = folder / {"onnx": "model.onnx", "openvino": "model.xml"}.get(format_name, f"model{source.suffix}")
    target = Target(precision, max_batch_size=more.pop("max_batch_size", 8))
    ADOPTERS[format_name].adopt(AdoptRequest(source, interface(source), path, target, **more))
    return path


def run_onnx(path: Path, pixels: torch.Tensor) -> torch.Tensor:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["scores"], {"pixels": pixels.numpy()})[0])


def run_ir(path: Path, pixels: torch.Tensor) -> torch.Tensor:
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return torch.from_numpy(compiled({"pixels": pixels.numpy()})["scores"].copy())


def test_what_needs_no_change_is_copied(written: dict[str, Path], tmp_path: Path) -> None:
    formats = {".onnx": "onnx", ".xml": "openvino", ".pt": "torchscript", ".plan": "tensorrt"}
    for suffix, format_name in formats.items():
        path = adopt(written[suffix], format_name, tmp_path / format_name)
        assert path.read_bytes() == written[suffix].read_bytes()
    assert (tmp_path / "openvino" / "model.bin").read_bytes() == written[".xml"].with_suffix(".bin").read_bytes()
    assert torch.equal(run_onnx(tmp_path / "onnx" / "model.onnx", PIXELS), run_onnx(written[".onnx"], PIXELS))
    assert torch.allclose(run_ir(tmp_path / "openvino" / "model.xml", PIXELS), scores(PIXELS), atol=1e-4)
    module = torch.jit.load(str(tmp_path / "torchscript" / "model.pt"))
    assert torch.allclose(module(PIXELS), scores(PIXELS), atol=1e-4)


@pytest.mark.parametrize(
    ("external", "kept"),
    [("weights.bin", "weights.bin"), ("deep/er/w", "model.onnx.data"), ("model.onnx", "model.onnx.data")],
)
def test_weights_in_other_files_come_along(external: str, kept: str, tmp_path: Path) -> None:
    source = write_onnx(tmp_path / "theirs.onnx", external=external)
    path = adopt(source, "onnx", tmp_path / "1")
    shutil.rmtree(tmp_path / "deep", ignore_errors=True)
    (tmp_path / external).unlink(missing_ok=True)
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.onnx", kept]
    assert torch.allclose(run_onnx(path, PIXELS), scores(PIXELS), atol=1e-4)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("form", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_an_activation_is_put_behind_onnx(activation: str, form: int, tmp_path: Path) -> None:
    source = write_onnx(tmp_path / "theirs.onnx", form=form, external="w")
    path = adopt(source, "onnx", tmp_path / "1", activation=activation)
    onnx.checker.check_model(str(path), full_check=True)
    told = interface(path)
    assert told.outputs == (ToldTensor("scores", "FP32", (-1, 4)),)
    found = run_onnx(path, PIXELS if form == TensorProto.FLOAT else PIXELS.half())
    exact = scores(PIXELS)
    expected = exact.softmax(1) if activation == "softmax" else exact.sigmoid()
    assert (found - expected).abs().max() < (1e-5 if form == TensorProto.FLOAT else 5e-2)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("format_name", ["onnx", "openvino"])
@pytest.mark.parametrize("last", ["Sigmoid", "Softmax"])
def test_no_second_activation_is_put_behind(last: str, format_name: str, activation: str, tmp_path: Path) -> None:
    """It would flatten the probabilities, and what the artifact is held to, itself, would be flattened, too."""
    model = onnx.load(write_onnx(tmp_path / "plain.onnx"))
    model.graph.node[-1].output[0] = "logits"
    model.graph.node.append(helper.make_node(last, ["logits"], ["made"]))
    model.graph.node.append(helper.make_node("Identity", ["made"], ["scores"]))
    onnx.save(model, tmp_path / "theirs.onnx")
    with pytest.raises(ExportError, match=f"theirs.onnx ends with a {last}.* already.*`activation: none`"):
        adopt(tmp_path / "theirs.onnx", format_name, tmp_path / "1", activation=activation)


def test_an_output_that_goes_on_within_the_graph_is_renamed_everywhere(tmp_path: Path) -> None:
    """Branches see the tensors around them."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["scores"], ["inner"])],
        "b",
        [],
        [helper.make_tensor_value_info("inner", 1, None)],
    )
    nodes = [
        helper.make_node("Identity", ["pixels"], ["scores"]),
        helper.make_node("If", ["yes"], ["other"], then_branch=body, else_branch=body),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("pixels", "scores")]
    yes = numpy_helper.from_array(np.array(True), "yes")
    model = helper.make_model(
        helper.make_graph(nodes, "g", values[:1], values[1:], [yes]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, tmp_path / "m.onnx")
    path = adopt(tmp_path / "m.onnx", "onnx", tmp_path / "1", activation="softmax")
    onnx.checker.check_model(str(path), full_check=True)
    assert torch.allclose(run_onnx(path, PIXELS[:, 0, 0, :4].clone()), PIXELS[:, 0, 0, :4].softmax(1))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("suffix", [".xml", ".onnx"])
def test_an_activation_is_put_behind_ir(suffix: str, activation: str, written: dict[str, Path], tmp_path: Path) -> None:
    path = adopt(written[suffix], "openvino", tmp_path / "1", activation=activation)
    told = interface(path)
    assert [tensor.name for tensor in (*(told.inputs or ()), *(told.outputs or ()))] == ["pixels", "scores"]
    expected = scores(PIXELS).softmax(1) if activation == "softmax" else scores(PIXELS).sigmoid()
    assert torch.allclose(run_ir(path, PIXELS), expected, atol=1e-5)
    assert '<net name="network"' in path.read_text()


def test_onnx_is_shipped_as_ir(tmp_path: Path) -> None:
    source = write_onnx(tmp_path / "theirs.onnx", external="w")
    whole, half = (adopt(source, "openvino", tmp_path / name, name) for name in ("fp32", "fp16"))
    for path, error in ((whole, 1e-4), (half, 2e-2)):
        assert torch.allclose(run_ir(path, PIXELS), scores(PIXELS), atol=error)
    assert (interface(whole).precision, interface(half).precision) == ("fp32", "fp16")
    assert half.with_suffix(".bin").stat().st_size < 0.6 * whole.with_suffix(".bin").stat().st_size


def test_ir_is_compressed(written: dict[str, Path], tmp_path: Path) -> None:
    path = adopt(written[".xml"], "openvino", tmp_path / "1", "fp16")
    assert interface(path).precision == "fp16"
    assert torch.allclose(run_ir(path, PIXELS), scores(PIXELS), atol=2e-2)


def test_bf16_is_what_openvino_computes_in(written: dict[str, Path], tmp_path: Path) -> None:
    path = adopt(written[".xml"], "openvino", tmp_path / "1", "bf16")
    assert path.read_bytes() == written[".xml"].read_bytes()


class Pixels:
    def __len__(self) -> int:
        return len(PIXELS)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return iter({"pixels": image} for image in PIXELS.split(1))


@pytest.mark.parametrize("format_name", ["onnx", "openvino"])
def test_onnx_is_quantised(format_name: str, tmp_path: Path) -> None:
    source = write_onnx(tmp_path / "theirs.onnx", external="w/x")
    path = adopt(source, format_name, tmp_path / "1", "int8", calibration=Pixels(), activation="softmax")
    assert interface(path).precision == "int8"
    found = (run_onnx if format_name == "onnx" else run_ir)(path, PIXELS)
    assert (found - scores(PIXELS).softmax(1)).abs().max() < 0.3
    assert torch.allclose(found.sum(1), torch.ones(5), atol=1e-4)  # the softmax itself is not rounded
    assert {file.suffix for file in path.parent.iterdir()} <= {".onnx", ".xml", ".bin"}


def test_int8_that_cannot_be_made(tmp_path: Path) -> None:
    old = write_onnx(tmp_path / "old.onnx", opset=11)
    with pytest.raises(ExportError, match=r"needs opset 13.*written in 11.*format: openvino"):
        adopt(old, "onnx", tmp_path / "1", "int8", calibration=Pixels())
    with pytest.raises(ExportError, match="give `calibration:`"):
        adopt(write_onnx(tmp_path / "m.onnx"), "onnx", tmp_path / "2", "int8")


def test_a_batch_of_one_is_opened_for_servers_that_batch(tmp_path: Path) -> None:
    source = write_onnx(tmp_path / "m.onnx", batch=1)
    batched = adopt(source, "onnx", tmp_path / "batched", max_batch_size=1)
    assert interface(batched).inputs == (IMAGE,)
    assert torch.allclose(run_onnx(batched, PIXELS[:1]), scores(PIXELS[:1]), atol=1e-4)
    whole = adopt(source, "onnx", tmp_path / "whole", max_batch_size=0)
    assert whole.read_bytes() == source.read_bytes()


def test_sizes_that_a_graph_leaves_open_are_declared_as_they_are(tmp_path: Path) -> None:
    """ONNX Runtime's backend refuses a config that tells a size where the graph does not."""
    source = write_onnx(tmp_path / "m.onnx", classes="classes")
    found = TensorSpec("scores", "FP32", (4,))
    told = adopt(source, "onnx", tmp_path / "told", outputs=(found,))
    assert interface(told).outputs == (ToldTensor("scores", "FP32", (-1, 4)),)
    assert torch.allclose(run_onnx(told, PIXELS), scores(PIXELS), atol=1e-4)
    whole = adopt(
        source, "onnx", tmp_path / "whole", max_batch_size=0, outputs=(TensorSpec("scores", "FP32", (-1, 4)),)
    )
    assert interface(whole).outputs == (ToldTensor("scores", "FP32", (-1, 4)),)
    for name, outputs in {
        "open": (TensorSpec("scores", "FP32", (-1,)),),
        "other": (TensorSpec("x", "FP32", (4,)),),
    }.items():
        assert adopt(source, "onnx", tmp_path / name, outputs=outputs).read_bytes() == source.read_bytes()
    closed = write_onnx(tmp_path / "closed.onnx")
    assert adopt(closed, "onnx", tmp_path / "kept", outputs=(found,)).read_bytes() == closed.read_bytes()


def test_what_leaves_sizes_open_is_published_without_a_finding(tmp_path: Path) -> None:
    write_onnx(tmp_path / "open.onnx", classes="classes")
    recipe = "{channels: 3, resize: [8, 8]}"
    build(tmp_path, f"models: {{m: {{artifact: open.onnx, activation: softmax, preprocess: {recipe}}}}}")
    report = check_repository([tmp_path / "repository"], CheckOptions(targets.named("newest"), False, granted_cores()))
    assert [finding.message for finding in report.findings] == []


def test_copied_kinds_take_no_activation(written: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no softmax can be put behind model.pt"):
        adopt(written[".pt"], "torchscript", tmp_path / "1", activation="softmax")
