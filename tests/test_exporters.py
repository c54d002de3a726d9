"""What is in the artifacts, and what exporters leave of the machine's memory and settings."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import VARIANTS
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from builder.exporters import EXPORTERS, alternatives, aoti, memory, onnx_file
from builder.machine.hardware import cpu_computes
from builder.networks.heads import one_tensor, with_head
from builder.triton.signature import Signature, TensorSpec
from builder.types import ExportRequest, Target

PIXELS = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
SIGNATURE = Signature((TensorSpec("INPUT__0", "FP32", (3, 16, 16)),), (TensorSpec("OUTPUT__0", "FP32", (5,)),))
FORMATS = ("torchscript", "onnx", "openvino", "aoti")


def network() -> nn.Module:
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten()]
    return head(nn.Sequential(*layers, nn.Linear(8 * 144, 5)).eval())


def head(module: nn.Module) -> nn.Module:
    return with_head(module, ["INPUT__0"], one_tensor, nn.Softmax(dim=1))


def export(folder: Path, format_name: str, precision: str = "fp32", module: nn.Module | None = None) -> Path:
    path = folder / EXPORTERS[format_name].FILENAME
    calibration = [{"INPUT__0": image} for image in PIXELS.split(1)]
    examples = {"INPUT__0": PIXELS[:2]}
    EXPORTERS[format_name].export(
        ExportRequest(module or network(), SIGNATURE, examples, path, Target(precision), calibration)
    )
    return path


class Artifacts(dict[tuple[str, str], Path]):
    """Of the network, by format and precision; made when a test asks for them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __missing__(self, variant: tuple[str, str]) -> Path:
        (self._folder / "-".join(variant)).mkdir()
        made = self[variant] = export(self._folder / "-".join(variant), *variant)
        return made


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    return Artifacts(tmp_path_factory.mktemp("artifacts"))


def compiled_once(format_name: str, precision: str) -> Any:
    """AOTInductor takes a quarter of a minute each: in half precision, the shared repository has its packages."""
    slow = format_name == "aoti" and precision != "fp32"
    return pytest.param(format_name, precision, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize(("format_name", "precision"), [compiled_once(*variant) for variant in VARIANTS])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_any_batch_size(format_name: str, precision: str, size: int, artifacts: Artifacts) -> None:
    predict = EXPORTERS[format_name].load(artifacts[format_name, precision], Target(precision), SIGNATURE)
    with torch.inference_mode():
        expected = network()(PIXELS[:size])
    assert (predict({"INPUT__0": PIXELS[:size]})["OUTPUT__0"] - expected).abs().max() < (
        1e-5 if precision == "fp32" else 2e-2
    )


class Attention(nn.Module):
    """Over three axes with a mask for each, over four, and over five with one mask for all, as of windows."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        attention, count = nn.functional.scaled_dot_product_attention, pixels.shape[0]
        rows = pixels.mean(1)
        rows = attention(rows, rows, rows, attn_mask=rows * 3) + attention(rows, rows.flip(1), rows, is_causal=True)
        tokens = pixels.reshape(count, 3, 4, 4, 16)
        windows = attention(tokens, tokens * 2, tokens, tokens.new_ones(4, 4).tril().log(), dropout_p=0.0)
        wide = attention(tokens, tokens, tokens, attn_mask=tokens[:, :1, :1, :, :4] * 5)
        heads = attention(pixels, pixels, pixels, scale=0.5)
        return (windows + wide).reshape(count, -1)[:, :5] + rows[:, :5, 0] + heads[:, 0, :5, 1]


def test_onnx_takes_attention_over_any_number_of_axes(tmp_path: Path) -> None:
    predict = EXPORTERS["onnx"].load(export(tmp_path, "onnx", module=head(Attention())), Target("fp32"), SIGNATURE)
    for size in (1, 3, 8):
        expected = Attention()(PIXELS[:size]).softmax(1)
        assert (predict({"INPUT__0": PIXELS[:size]})["OUTPUT__0"] - expected).abs().max() < 1e-6


def test_torchscript_int8_runs_quantised_operators(artifacts: Artifacts) -> None:
    module = torch.jit.load(str(artifacts["torchscript", "int8"]))
    kinds = {node.kind() for node in module.inlined_graph.nodes()}
    assert {"quantized::conv2d_relu", "quantized::linear"} <= kinds
    assert "aten::conv2d" not in kinds


def test_onnx_int8_is_qdq_with_weights_per_channel(artifacts: Artifacts) -> None:
    model = onnx.load(str(artifacts["onnx", "int8"]))
    onnx.checker.check_model(model, full_check=True)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    dequantised = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    weighted = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert len(weighted) == 3
    for node in weighted:
        weight = dequantised[node.input[1]]
        assert initializers[weight.input[0]].data_type == TensorProto.INT8
        channels = 5 if node.op_type != "Conv" else 8
        assert list(initializers[weight.input[1]].dims) == [channels]
        assert node.input[0] in dequantised
    (softmax,) = [node for node in model.graph.node if node.op_type == "Softmax"]
    assert softmax.output[0] == model.graph.output[0].name  # not rounded to steps of 1/256


def test_onnx_int8_weights_leave_room_for_cpus_without_vnni(artifacts: Artifacts) -> None:
    model = onnx.load(str(artifacts["onnx", "int8"]))
    weights = [numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == TensorProto.INT8 and t.dims]
    assert max(np.abs(weight.astype(int)).max() for weight in weights) <= 64


def test_openvino_int8_runs_quantised_convolutions(artifacts: Artifacts) -> None:
    import openvino

    model = openvino.Core().read_model(str(artifacts["openvino", "int8"]))
    assert "FakeQuantize" in {operation.get_type_name() for operation in model.get_ops()}
    constants = [op for op in model.get_ops() if op.get_type_name() == "Constant"]
    assert sum(op.get_output_element_type(0).to_string() in ("i8", "u8") for op in constants) == 3


@pytest.mark.parametrize("format_name", ["onnx", "openvino"])
def test_half_precision_is_half_the_size(format_name: str, artifacts: Artifacts) -> None:
    def size(precision: str) -> int:
        return sum(file.stat().st_size for file in artifacts[format_name, precision].parent.iterdir())

    assert 0.4 < size("fp16") / size("fp32") < 0.75


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("format_name", ["torchscript", "aoti"])
def test_half_precisions_are_those_of_the_cpu(format_name: str, precision: str) -> None:
    refusal = EXPORTERS[format_name].refusal(Target(precision))
    assert bool(refusal) != cpu_computes(precision)


def test_graphs_that_can_be_run_in_half_precision_are(tmp_path: Path) -> None:
    """On GPUs' behalf: the trace is in half precision, whatever this machine's CPU is fast at."""
    path = export(tmp_path, "torchscript", "bf16")
    with torch.inference_mode():
        assert (torch.jit.load(str(path))(PIXELS) - network()(PIXELS)).abs().max() < 1e-2
    constants = {
        node.t("value").dtype
        for node in torch.jit.load(str(path)).graph.nodes()
        if node.kind() == "prim::Constant" and node.hasAttribute("value") and node.kindOf("value") == "t"
    }
    assert torch.bfloat16 in constants


def test_compiled_packages_leave_nothing_beside_them(artifacts: Artifacts) -> None:
    assert [file.name for file in artifacts["aoti", "fp32"].parent.iterdir()] == [aoti.FILENAME]


def test_alternatives_name_what_is_possible() -> None:
    assert "onnx can be built in fp32, fp16, int8" in alternatives(Target("bf16"), "onnx")
    assert "bf16 with format torchscript, openvino, aoti" in alternatives(Target("bf16"), "onnx")
    assert alternatives(Target("int8", "gpu"), "openvino") == "for device: gpu, int8 with format tensorrt"
    here = alternatives(Target("bf16"), "onnx", here=True)
    assert ("torchscript" in here) == cpu_computes("bf16")


NAMES = st.lists(st.text("abcdef", min_size=1), min_size=1, max_size=6, unique=True)


@settings(deadline=None)
@given(NAMES, st.data())
def test_weights_joined_to_their_graph_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], data: st.DataObject
) -> None:
    sizes = [data.draw(st.integers(0, 40_000)) for _ in names]
    graph = write_external(tmp_path_factory.mktemp("graph"), names, sizes)
    before = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(graph)).graph.initializer}
    joined = graph.with_name("joined.onnx")
    onnx_file.join(graph, joined)
    graph.with_name("weights").unlink(missing_ok=True)  # nothing of it is needed any more
    after = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(joined)).graph.initializer}
    assert {name: array.tobytes() for name, array in before.items()} == {n: a.tobytes() for n, a in after.items()}
    assert {name: array.shape for name, array in before.items()} == {n: a.shape for n, a in after.items()}


def write_external(folder: Path, names: list[str], sizes: list[int]) -> Path:
    random = np.random.default_rng(0)
    arrays = [random.random((size, 2), np.float32) for size in sizes]
    tensors = [numpy_helper.from_array(array, name) for name, array in zip(names, arrays, strict=True)]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])
    node = helper.make_node("Identity", ["x"], ["y"])
    model = helper.make_model(
        helper.make_graph([node], "g", [value], [helper.make_value_info("y", value.type)], tensors)
    )
    path = folder / "model.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="weights", size_threshold=64)
    return path


def test_weights_beyond_protocol_buffers_stay_in_a_second_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "ONE_FILE_BYTES", 1000)  # in the place of gigabytes
    graph = write_external(tmp_path, ["a", "b"], [300, 200])
    before = [numpy_helper.to_array(t).tobytes() for t in onnx.load(str(graph)).graph.initializer]
    (tmp_path / "version").mkdir()
    onnx_file.join(graph, tmp_path / "version" / "model.onnx")
    assert sorted(file.name for file in (tmp_path / "version").iterdir()) == ["model.onnx", "model.onnx.data"]
    after = onnx.load(str(tmp_path / "version" / "model.onnx")).graph.initializer
    assert [numpy_helper.to_array(t).tobytes() for t in after] == before


@pytest.mark.parametrize("format_name", FORMATS)
def test_exporters_let_go_of_the_network(format_name: str, tmp_path: Path) -> None:
    """PyTorch's caches hold what they were given; builds of many networks would hold them all.

    A state dict may have more than tensors.
    """
    size = 654_321

    class Noted(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"version": 2}

    def wide() -> nn.Module:
        return head(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), Noted(3, size)))

    export(tmp_path, format_name, module=wide())
    gc.collect()
    held = [t for t in gc.get_objects() if type(t) in (torch.Tensor, nn.Parameter) and _elements(t) >= size]
    assert held == []


def _elements(tensor: Any) -> int:
    try:
        return int(tensor.numel())
    except RuntimeError:
        return 0


def test_pages_that_are_let_go_come_back(tmp_path: Path) -> None:
    expected = torch.rand(1_000_000)
    torch.save({"weight": expected}, tmp_path / "w.pth")
    module = nn.Linear(1000, 1000, bias=False)
    mapped = torch.load(tmp_path / "w.pth", mmap=True)["weight"].reshape(1000, 1000)
    module.load_state_dict({"weight": mapped}, assign=True)
    before = expected.reshape(1000, 1000).clone()
    memory.page_out(module)
    memory.page_out_file(tmp_path / "w.pth")
    assert torch.equal(module.weight, before)
    memory.page_out(nn.Linear(1000, 1000))  # memory of no file is left alone, too


def test_tensors_of_others_are_left_alone() -> None:
    others = [torch.ones(5), nn.Parameter(torch.ones(3))]
    module = nn.Linear(2, 2)
    with memory.weights_released(module):
        inside, small = torch.ones(1_000_000), torch.ones(7)
    assert [len(t) for t in others] == [5, 3]
    assert (inside.numel(), module.weight.numel(), module.bias.numel()) == (0, 0, 0)
    assert small.numel() == 7  # may be a constant that somebody goes on to use
