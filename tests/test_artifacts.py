"""What files of the user's tell of themselves, and what is said of those that are damaged or something else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from artifact_files import (
    ANSWER,
    IMAGE,
    PIXELS,
    WEIGHT,
    WRITERS,
    Scores,
    write_ir,
    write_onnx,
    write_package,
    write_torchscript,
    written,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import nn

from builder.errors import NetworkError
from builder.exporters.interfaces import INTERFACES, interface, onnx_wire, plan
from builder.triton.interface import ToldTensor

__all__ = ["written"]


def test_every_kind_has_a_writer_here() -> None:
    assert set(WRITERS) == set(INTERFACES)


def test_onnx_tells_everything(written: dict[str, Path]) -> None:
    told = interface(written[".onnx"])
    assert (told.inputs, told.outputs, told.precision) == ((IMAGE,), (ANSWER,), "fp32")
    assert (told.facts["opset"], told.facts["producer"], told.beside) == ("18", "test", ())


def test_the_numbers_of_weights_are_read_past(tmp_path: Path) -> None:
    """What is found without them is what is found with them."""
    path = write_onnx(tmp_path / "m.onnx")
    model = onnx.load(path)
    listed = helper.make_tensor("listed", TensorProto.INT64, [5], range(5))  # as a list, not as raw bytes
    model.graph.initializer.append(listed)
    onnx.save(model, path)
    slim = onnx.ModelProto.FromString(onnx_wire.without_numbers(path))
    assert slim.ByteSize() < 500 < WEIGHT.nbytes
    for tensor in model.graph.initializer:
        for name in ("raw_data", "int64_data"):
            tensor.ClearField(name)
    assert slim == model


def test_ir_tells_everything(written: dict[str, Path]) -> None:
    told = interface(written[".xml"])
    assert (told.inputs, told.outputs, told.precision) == ((IMAGE,), (ANSWER,), "fp32")
    assert told.beside == ("model.bin",)
    assert told.facts["ir_version"] == "11"


def test_torchscript_tells_its_arguments(written: dict[str, Path]) -> None:
    told = interface(written[".pt"])
    assert (told.inputs, told.outputs, told.precision) == ((ToldTensor("pixels"),), None, "fp32")


def test_programs_tell_types_and_shapes(written: dict[str, Path]) -> None:
    told = interface(written[".pt2"])
    assert told.inputs == (IMAGE,)
    assert told.outputs
    assert (told.outputs[0].data_type, told.outputs[0].shape, told.precision) == ("FP32", (-1, 4), "fp32")


def test_plans_tell_their_version(written: dict[str, Path]) -> None:
    told = plan.interface(written[".plan"], lambda: None)
    assert (told.inputs, told.facts) == (None, {"tensorrt_version": "10.14.1"})


class Logger:
    ERROR = 1

    def __init__(self, level: int) -> None:
        self.level = level


class Engine:
    """As the tensorrt package has it."""

    names = ("x", "y")
    num_io_tensors = 2

    def get_tensor_name(self, number: int) -> str:
        return self.names[number]

    def get_tensor_mode(self, name: str) -> str:
        return {"x": "in", "y": "out"}[name]

    def get_tensor_dtype(self, name: str) -> str:
        return {"x": "float", "y": "bf16"}[name]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return {"x": (-1, 3, 8, 8), "y": (-1, 4)}[name]


def test_plans_tell_their_tensors_to_tensorrt(written: dict[str, Path]) -> None:
    package = SimpleNamespace(
        Logger=Logger,
        Runtime=lambda _: SimpleNamespace(deserialize_cuda_engine=lambda _: Engine()),
        TensorIOMode=SimpleNamespace(INPUT="in"),
        DataType=SimpleNamespace(BF16="bf16"),
        nptype=lambda _: np.float32,
    )
    told = plan.interface(written[".plan"], lambda: package)
    assert told.inputs == (ToldTensor("x", "FP32", (-1, 3, 8, 8)),)
    assert told.outputs == (ToldTensor("y", "BF16", (-1, 4)),)


def test_packages_tell_their_device_alone(tmp_path: Path) -> None:
    told = interface(write_package(tmp_path / "m.pt2", "cuda"))
    assert (told.inputs, told.outputs, told.facts["aoti_device_key"]) == (None, None, "cuda")


@pytest.mark.parametrize(
    ("form", "precision"),
    [(TensorProto.FLOAT16, "fp16"), (TensorProto.DOUBLE, "fp32"), (TensorProto.FLOAT, "fp32")],
)
def test_onnx_precision_is_that_of_its_weights(form: int, precision: str, tmp_path: Path) -> None:
    assert interface(write_onnx(tmp_path / "m.onnx", form=form)).precision == precision


def test_precision_of_other_kinds_is_that_of_their_weights(tmp_path: Path) -> None:
    assert interface(write_ir(tmp_path / "m.xml", compress=True)).precision == "fp16"
    assert interface(write_torchscript(tmp_path / "m.pt", torch.bfloat16)).precision == "bf16"


def test_frozen_and_scripted_archives_are_read(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
            return ids * 2, ids if mask is None else mask

    torch.jit.script(Two()).save(str(tmp_path / "scripted.pt"))
    frozen = torch.jit.freeze(torch.jit.trace(Scores(torch.from_numpy(WEIGHT).half()).eval(), PIXELS.half()))
    frozen.save(str(tmp_path / "frozen.pt"))
    assert interface(tmp_path / "scripted.pt").inputs == (ToldTensor("ids"), ToldTensor("mask"))
    told = interface(tmp_path / "frozen.pt")
    assert (told.inputs, told.precision) == ((ToldTensor("pixels"),), "fp16")


def test_onnx_axes_are_fixed_or_of_any_size(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["a"], ["b"])],
        "g",
        [helper.make_tensor_value_info("a", TensorProto.INT64, ["n", 7, None])],
        [helper.make_empty_tensor_value_info("b")],
    )
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    told = interface(tmp_path / "m.onnx")
    assert told.inputs == (ToldTensor("a", "INT64", (-1, 7, -1)),)
    assert told.outputs == (ToldTensor("b"),)
    assert told.precision is None


# --- files that are something else ---


def state_dict(path: Path) -> None:
    torch.save({"weight": torch.rand(3)}, path)


def renamed(suffix: str) -> Callable[[Path], None]:
    return lambda path: shutil.copyfile(WRITERS[suffix](path.with_name(f"other{suffix}")), path) and None


WRONG: list[tuple[str, Callable[[Path], Any], str]] = [
    ("m.onnx", lambda path: path.write_bytes(b""), "is empty"),
    ("m.pt", lambda path: path.write_bytes(bytes(1000)), "is empty"),
    ("m.onnx", lambda path: path.mkdir(), "is a folder; name the file in it"),
    ("m.xml", lambda path: path, "does not exist; correct the path"),
    ("m.onnx", lambda path: os.mkfifo(path), "no regular file"),
    ("m.onnx", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid x"), "git lfs pull"),
    ("m.plan", lambda path: path.write_text("<!DOCTYPE html><html>"), "is a web page"),
    ("m.pt", state_dict, "what torch.save wrote.*`weights:`"),
    ("m.pt", lambda path: path.write_bytes(b"\x80\x02}q\x00."), "is a pickle.*`weights:`"),
    ("m.pth", state_dict, "file of weights, by its suffix.*`weights:`"),
    ("m.tflite", lambda path: path.write_bytes(b"x"), r"of no kind that is served \(.tflite\); .*\.onnx, \.pt"),
    ("model", lambda path: path.write_bytes(b"x"), "no suffix"),
    ("m.pt", renamed(".pt2"), "exported program or package; name it m.pt2"),
    ("m.pt2", renamed(".pt"), "is TorchScript; name it m.pt$"),
    ("m.onnx", renamed(".pt"), "cannot be read as an ONNX model"),
    ("m.xml", renamed(".onnx"), "cannot be read as OpenVINO IR"),
    ("m.plan", renamed(".onnx"), "cannot be read as a TensorRT plan"),
    ("m.xml", lambda path: path.write_text("<annotation><object/></annotation>"), "XML of another kind"),
]


@pytest.mark.parametrize(("name", "write", "message"), WRONG)
def test_files_that_are_something_else(name: str, write: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(NetworkError, match=message) as raised:
        interface(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_ir_without_its_weights(tmp_path: Path) -> None:
    path = write_ir(tmp_path / "m.xml")
    weights = tmp_path / "m.bin"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(NetworkError, match=r"m.bin has 100 bytes, and m.xml needs \d+"):
        interface(path)
    weights.unlink()
    with pytest.raises(NetworkError, match=r"keeps weights in m.bin, which is not beside it"):
        interface(path)


@pytest.mark.parametrize("location", ["../secrets", "/etc/passwd", "a/../../b", "..\\up"])
def test_weights_outside_the_folder_are_not_read(location: str, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", external="weights")
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = location if entry.key == "location" else entry.value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(NetworkError, match="outside its own folder"):
        interface(path)


def test_onnx_without_its_weights(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", external="weights.bin")
    assert interface(path).beside == ("weights.bin",)
    weights = tmp_path / "weights.bin"
    weights.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(NetworkError, match=r"weights.bin is a pointer of Git LFS"):
        interface(path)
    weights.write_bytes(bytes(100))
    with pytest.raises(NetworkError, match=r"weights.bin has 100 bytes, and m.onnx needs 3072"):
        interface(path)
    weights.unlink()
    with pytest.raises(NetworkError, match=r"weights.bin, which is not beside it"):
        interface(path)


def test_what_triton_has_no_tensors_for(tmp_path: Path) -> None:
    pairs = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, ()))
    value = helper.make_value_info("probabilities", helper.make_sequence_type_proto(pairs))
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])
    graph = helper.make_graph([helper.make_node("ZipMap", ["x"], ["probabilities"])], "g", [taken], [value])
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    with pytest.raises(NetworkError, match=r"gives probabilities as a sequence.*zipmap"):
        interface(tmp_path / "m.onnx")
    write_complex(tmp_path / "c.onnx")
    with pytest.raises(NetworkError, match="x as COMPLEX64, for which Triton has no data type"):
        interface(tmp_path / "c.onnx")


def write_complex(path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.COMPLEX64, [None]) for name in "xy")
    onnx.save(helper.make_model(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])), path)


def test_torchscript_that_no_server_runs(tmp_path: Path) -> None:
    class Number(nn.Module):
        def forward(self, x: torch.Tensor, count: int) -> torch.Tensor:
            return x * count

    class Named(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"x": x}

    for module, message in ((Number(), "takes count: int"), (Named(), r"gives Dict\[str, Tensor\]")):
        torch.jit.script(module).save(str(tmp_path / "m.pt"))
        with pytest.raises(NetworkError, match=message):
            interface(tmp_path / "m.pt")


# --- whatever the bytes are, there is one message ---

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_or_refuse(path: Path) -> None:
    try:
        interface(path)
    except NetworkError as error:
        assert str(path) in str(error)  # noqa: PT017


@pytest.mark.parametrize("suffix", WRITERS)
@FUZZ
@given(content=st.binary(max_size=300))
def test_random_bytes(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"m{suffix}"
    for begin in (b"", b"PK\x03\x04", b"<?xml version='1.0'?><net>", b"ftrt", b"\x08\x08"):
        path.write_bytes(begin + content)
        read_or_refuse(path)


@pytest.mark.parametrize("suffix", WRITERS)
@FUZZ
@given(data=st.data())
def test_truncated_and_flipped(suffix: str, data: st.DataObject, written: dict[str, Path], tmp_path: Path) -> None:
    content = bytearray(written[suffix].read_bytes())
    path = tmp_path / f"model{suffix}"
    if suffix == ".xml" and not path.with_suffix(".bin").exists():
        shutil.copyfile(written[suffix].with_suffix(".bin"), path.with_suffix(".bin"))
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    read_or_refuse(path)


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt", ".pt2"])
def test_what_is_cut_short_is_refused(suffix: str, written: dict[str, Path], tmp_path: Path) -> None:
    content = written[suffix].read_bytes()
    path = tmp_path / f"model{suffix}"
    for share in (0.2, 0.5, 0.8, 0.99):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(NetworkError):
            interface(path)
