"""Artifacts of networks with any inputs and outputs: several, of any type and any size, batched or not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import VARIANTS
from encoders import ENCODER, encoder, export, texts
from torch import nn

from builder.errors import ExportError
from builder.exporters import EXPORTERS
from builder.networks.heads import one_tensor, with_head
from builder.triton.signature import Signature, TensorSpec
from builder.types import Target

SUM = Signature(
    (TensorSpec("rows", "FP32", (-1, 4)), TensorSpec("keep", "BOOL", (-1,))), (TensorSpec("sum", "FP32", (4,)),), False
)
HALVES = [("torchscript", "bf16"), ("onnx", "fp16"), ("openvino", "fp16")]
MADE = [v for v in VARIANTS if v[1] in ("fp32", "int8") or v in HALVES]
FORMATS = tuple(dict.fromkeys(name for name, _ in VARIANTS))


class Sum(nn.Module):
    def forward(self, rows: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        return (rows * keep.unsqueeze(-1)).sum(0)


class Fixed(nn.Module):
    """Works with the length that it was made for alone."""

    def forward(self, rows: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        return (rows * torch.arange(5.0)[:, None] * keep.unsqueeze(-1)).sum(0)


def table(length: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(length)
    return {"rows": torch.rand(length, 4, generator=random), "keep": torch.rand(length, generator=random) > 0.3}


class Encoders(dict[tuple[str, str], Path]):
    """By format and precision; made when a test asks for them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __missing__(self, variant: tuple[str, str]) -> Path:
        made = self[variant] = export(self._folder / "-".join(variant), variant, encoder(), ENCODER, texts(2, 5))
        return made


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Encoders:
    return Encoders(tmp_path_factory.mktemp("encoders"))


def compiled_once(variant: tuple[str, str]) -> Any:
    """AOTInductor takes a quarter of a minute each: one with two inputs of any size is compiled further below."""
    return pytest.param(variant, marks=pytest.mark.slow if variant[0] == "aoti" else (), id="-".join(variant))


@pytest.mark.parametrize("variant", map(compiled_once, MADE))
@pytest.mark.parametrize(("batch", "length"), [(1, 5), (3, 2), (8, 11), (2, 1)])
def test_any_batch_and_length(variant: tuple[str, str], batch: int, length: int, encoders: Encoders) -> None:
    given = texts(batch, length)
    found = EXPORTERS[variant[0]].load(encoders[variant], Target(variant[1]), ENCODER)(given)
    with torch.inference_mode():
        expected = dict(zip(found, encoder()(*given.values()), strict=True))
    assert list(found) == ["hidden", "pooled", "best"]
    assert torch.equal(found["best"], expected["best"])  # whole numbers, exactly
    for name in ("hidden", "pooled"):
        assert found[name].dtype == torch.float32
        bound = {"fp32": 1e-5, "fp16": 1e-2, "bf16": 6e-2, "int8": 0.2}[variant[1]]
        error = (found[name] - expected[name]).abs()
        assert (error.mean() if variant[1] == "int8" else error.max()) < bound  # int8 cuts off what is rare


@pytest.mark.parametrize("format_name", FORMATS)
def test_networks_without_a_batch(format_name: str, tmp_path: Path) -> None:
    """And without weights. An example's size of 1 is none that torch.export would take for fixed."""
    module = with_head(Sum(), ["INPUT__0", "INPUT__1"], one_tensor)
    path = export(tmp_path, (format_name, "fp32"), module, SUM, table(1))
    predict = EXPORTERS[format_name].load(path, Target(), SUM)
    for size in (1, 4, 9):
        assert torch.allclose(predict(table(size))["sum"], Sum()(*table(size).values()), atol=1e-5)


def test_length_that_a_network_fixes_is_named(tmp_path: Path) -> None:
    module = with_head(Fixed(), ["INPUT__0", "INPUT__1"], one_tensor)
    with pytest.raises(ExportError, match=r"`rows` may be of any size in number 1 of .*\[-1, 4\].* with 5 alone"):
        export(tmp_path, ("onnx", "fp32"), module, SUM, table(5))


@pytest.mark.parametrize("format_name", [name for name in FORMATS if EXPORTERS[name].NAMES_TENSORS])
def test_artifacts_bear_the_names(format_name: str, encoders: Encoders) -> None:
    import onnx
    import openvino

    path = encoders[format_name, "fp32"]
    if format_name == "onnx":
        graph = onnx.load(str(path)).graph
        found = [[value.name for value in values] for values in (graph.input, graph.output)]
    else:
        model = openvino.Core().read_model(str(path))
        found = [[port.get_any_name() for port in ports] for ports in (model.inputs, model.outputs)]
    assert found == [[tensor.name for tensor in tensors] for tensors in (ENCODER.inputs, ENCODER.outputs)]


@pytest.mark.parametrize("format_name", [name for name in FORMATS if EXPORTERS[name].NAMES_TENSORS])
def test_types_that_numpy_has_not_are_refused(format_name: str, tmp_path: Path) -> None:
    signature = Signature((TensorSpec("x", "BF16", (3,)),), (TensorSpec("y", "FP32", (3,)),))
    module = with_head(nn.Identity(), ["INPUT__0"], one_tensor)
    with pytest.raises(ExportError, match=r"`x` is BF16, which .* declare it as FP32"):
        export(tmp_path, (format_name, "fp32"), module, signature, {"x": torch.ones(2, 3, dtype=torch.bfloat16)})
