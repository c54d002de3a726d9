"""Artifacts as their own tools write them, all of one network, and that network."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from builder.triton.interface import ToldTensor

PIXELS = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
WEIGHT = np.random.default_rng(0).standard_normal((192, 4)).astype(np.float32)


def scores(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.flatten(1) @ torch.from_numpy(WEIGHT)


def write_onnx(
    path: Path,
    batch: Any = "batch",
    form: int = TensorProto.FLOAT,
    opset: int = 18,
    external: str = "",
    classes: Any = 4,
    **save: Any,
) -> Path:
    """Images -> scores [batch, classes]; the weight is `form`, and input and output are, too."""
    weight = numpy_helper.from_array(WEIGHT.astype(helper.tensor_dtype_to_np_dtype(form)), "weight")
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["pixels"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["scores"]),
        ],
        "network",
        [helper.make_tensor_value_info("pixels", form, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", form, [batch, classes])],
        [weight],
    )
    # As files of old have it, weights are listed among the inputs.
    graph.input.append(helper.make_tensor_value_info("weight", form, WEIGHT.shape))
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="test", ir_version=8)
    if external:
        (path.parent / external).parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path, save_as_external_data=True, location=external, size_threshold=0, **save)
    else:
        onnx.save(model, path)
    return path


class Scores(nn.Module):
    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.flatten(1) @ self.weight


def write_ir(path: Path, compress: bool = False, shape: tuple[int, ...] = (-1, 3, 8, 8)) -> Path:
    import openvino

    model = openvino.convert_model(Scores(torch.from_numpy(WEIGHT)), example_input=PIXELS)
    model.inputs[0].get_tensor().set_names({"pixels"})
    model.outputs[0].get_tensor().set_names({"scores"})
    model.reshape(list(shape))
    openvino.save_model(model, path, compress_to_fp16=compress)
    return path


def write_torchscript(path: Path, dtype: torch.dtype = torch.float32) -> Path:
    module = Scores(torch.from_numpy(WEIGHT).to(dtype)).eval()
    torch.jit.trace(module, PIXELS.to(dtype), check_trace=False).save(str(path))
    return path


def write_program(path: Path, dynamic: bool = True) -> Path:
    sizes = ({0: torch.export.Dim("batch", min=1, max=64)},) if dynamic else None
    program = torch.export.export(Scores(torch.from_numpy(WEIGHT)).eval(), (PIXELS,), dynamic_shapes=sizes)
    torch.export.save(program, path)
    return path


def write_package(path: Path, device: str = "cpu") -> Path:
    """What AOTInductor writes, without its machine code."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/archive_format", "pt2")
        place = "model/data/aotinductor/model/abc.wrapper"
        archive.writestr(f"{place}.so", b"\x7fELF")
        archive.writestr(f"{place}_metadata.json", json.dumps({"AOTI_DEVICE_KEY": device, "AOTI_CPU_ISA": "AVX2"}))
    return path


def write_plan(path: Path) -> Path:
    path.write_bytes(b"ftrt" + bytes(20) + bytes([10, 14, 1, 48]) + bytes(range(1, 200)))
    return path


WRITERS: dict[str, Callable[[Path], Path]] = {
    ".onnx": write_onnx,
    ".xml": write_ir,
    ".pt": write_torchscript,
    ".pt2": write_program,
    ".plan": write_plan,
}

IMAGE, ANSWER = ToldTensor("pixels", "FP32", (-1, 3, 8, 8)), ToldTensor("scores", "FP32", (-1, 4))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One whole file of each kind, to be read alone."""
    folder = tmp_path_factory.mktemp("artifacts")
    return {suffix: write(folder / f"model{suffix}") for suffix, write in WRITERS.items()}
