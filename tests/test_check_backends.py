"""What artifacts tell without their libraries, whatever is in the files, and what backends fill in of it."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from artifact_files import write_ir, write_onnx, write_torchscript, written

from builder.check import backends
from builder.check.backends import reading_ir, reading_onnx, reading_torchscript
from builder.check.backends.network import DamagedError
from builder.check.config import read
from builder.check.findings import Finding
from builder.check.model import Context, Model
from builder.check.rules import artifacts, backend
from builder.check.target import Target
from builder.exporters.interfaces import interface
from builder.triton.releases import newest

__all__ = ["written"]

READERS: dict[str, Callable[[Path], Any]] = {
    ".onnx": reading_onnx.network,
    ".xml": reading_ir.network,
    ".pt": reading_torchscript.forward,
}


def model_of(folder: Path) -> Model:
    config = read(folder / "config.pbtxt")
    filled = type(config.message)()
    filled.CopyFrom(config.message)
    versions = {int(path.name): path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()}
    return Model(folder.name, folder, config, filled, tuple(sorted(versions)), versions)


def found(folder: Path, strict: bool = False, target: str = "24.10") -> list[Finding]:
    model, context = model_of(folder), Context(Target(target), strict)
    if not strict:
        backends.fill(model)
    return [finding for family in (backend, artifacts) for finding in family.check(model, context)]


@pytest.mark.parametrize("target", ["24.10", newest().tag])
def test_what_is_built_has_no_findings(repository: Path, target: str) -> None:
    folders = [path for path in repository.iterdir() if (path / "config.pbtxt").is_file()]
    assert {model_of(folder).filled.backend for folder in folders} >= {"onnxruntime", "openvino", "pytorch", "python"}
    assert {folder.name: found(folder, target=target) for folder in folders} == {folder.name: [] for folder in folders}


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_readers_tell_what_the_builder_reads(written: dict[str, Path], suffix: str) -> None:
    told, own = interface(written[suffix]), READERS[suffix](written[suffix])
    for theirs, mine in ((told.inputs, own.inputs), (told.outputs, own.outputs)):
        assert theirs
        assert [(one.name, one.data_type, one.shape) for one in mine] == [
            (one.name, one.data_type, one.shape) for one in theirs
        ]


def test_forward_is_told(written: dict[str, Path]) -> None:
    told = reading_torchscript.forward(written[".pt"])
    assert told
    assert [argument.name for argument in told.arguments] == ["pixels"]
    assert told.results == 1


def test_onnx_runtime_agrees_on_what_may_be_left_out(written: dict[str, Path]) -> None:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(written[".onnx"]), providers=["CPUExecutionProvider"])
    own = reading_onnx.network(written[".onnx"])
    assert own
    assert [one.name for one in own.inputs] == [one.name for one in session.get_inputs()]
    assert [one.name for one in own.defaults] == [one.name for one in session.get_overridable_initializers()]


@pytest.mark.parametrize("suffix", READERS)
def test_whatever_is_in_a_file_is_told_or_damaged(written: dict[str, Path], tmp_path: Path, suffix: str) -> None:
    whole, path, dice = written[suffix].read_bytes(), tmp_path / f"model{suffix}", random.Random(0)
    outcomes = set()
    for _ in range(300):
        data = bytearray(whole[: dice.randrange(1, len(whole) + 1)] if dice.random() < 0.5 else whole)
        for _ in range(dice.randrange(8)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(data)
        try:
            outcomes.add(type(READERS[suffix](path)).__name__)
        except DamagedError:
            outcomes.add("damaged")
    assert len(outcomes) > 1


def test_gigabytes_of_weights_are_passed_over(tmp_path: Path) -> None:
    """A weight of 1.9 GB, which takes no room on the disk: if it were read, the time limit of a call would pass."""
    import onnx

    path = write_onnx(tmp_path / "model.onnx")
    model = onnx.load(path)
    length = 1_900_000_000
    del model.graph.initializer[:]
    weight = onnx.TensorProto(name="weight", data_type=1, dims=[length // 4]).SerializeToString()
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    raw = b"\x4a" + _number(length)
    tensor = b"\x2a" + _number(len(weight) + len(raw) + length) + weight + raw
    with path.open("wb") as file:
        file.write(model.SerializeToString() + b"\x3a" + _number(len(graph) + len(tensor) + length) + graph + tensor)
        file.truncate(file.tell() + length)
    before = time.process_time()
    told = reading_onnx.network(path)
    assert time.process_time() - before < 5  # a bound on work, not on speed: reading it all takes longer
    assert told
    assert [one.name for one in told.defaults] == ["weight"]


def _number(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def test_no_library_is_imported() -> None:
    code = (
        "import sys, builder.check.rules, builder.check.backends.reading_onnx; "
        "print(*{'torch', 'onnx', 'numpy', 'openvino', 'pydantic', 'tritonclient'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout == "\n"


CONFIG = 'backend: "{}"\n'


def made(folder: Path, name: str, write: Callable[[Path], Path], filename: str) -> Model:
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(CONFIG.format(name))
    write(folder / "1" / filename)
    return model_of(folder)


def test_what_is_left_out_is_filled_in(tmp_path: Path) -> None:
    model = made(tmp_path / "onnx", "onnxruntime", write_onnx, "model.onnx")
    backends.fill(model)
    filled = model.filled
    assert (filled.max_batch_size, filled.HasField("dynamic_batching")) == (4, True)
    assert [(each.name, each.data_type, list(each.dims)) for each in (*filled.input, *filled.output)] == [
        ("pixels", 11, [3, 8, 8]),
        ("scores", 11, [4]),
    ]
    assert not model.config.message.input


def test_fixed_batches_are_filled_in_whole(tmp_path: Path) -> None:
    model = made(tmp_path / "onnx", "onnxruntime", lambda path: write_onnx(path, batch=2), "model.onnx")
    backends.fill(model)
    assert (model.filled.max_batch_size, list(model.filled.input[0].dims)) == (0, [2, 3, 8, 8])


def test_openvino_fills_in_what_has_one_shape(tmp_path: Path) -> None:
    model = made(tmp_path / "ir", "openvino", lambda path: write_ir(path, shape=(2, 3, 8, 8)), "model.xml")
    backends.fill(model)
    assert (model.filled.max_batch_size, list(model.filled.input[0].dims)) == (0, [2, 3, 8, 8])
    assert list(model.filled.output[0].dims) == [2, 4]


def test_torchscript_fills_in_nothing(tmp_path: Path) -> None:
    model = made(tmp_path / "pt", "pytorch", write_torchscript, "model.pt")
    backends.fill(model)
    assert not model.filled.input
    assert not backends.is_open(model)


@pytest.mark.parametrize(
    ("code", "is_open"), [("def execute(self, r): ...", False), ("def auto_complete_config(c): return c", True)]
)
def test_only_python_knows_what_python_fills_in(tmp_path: Path, code: str, is_open: bool) -> None:
    def write(path: Path) -> Path:
        path.write_text(f"class TritonPythonModel:\n    {code}\n")
        return path

    assert backends.is_open(made(tmp_path / "py", "python", write, "model.py")) is is_open


@pytest.mark.parametrize("filename", ["model.onnx", "model.xml", "model.pt", "model.py", "model.plan", "model.json"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, filename: str) -> None:
    names = {".onnx": "onnxruntime", ".xml": "openvino", ".pt": "pytorch", ".py": "python", ".plan": "tensorrt"}
    name = names.get(Path(filename).suffix, "vllm")

    def pipe(path: Path) -> Path:
        os.mkfifo(path)
        return path

    model = made(tmp_path / "m", name, pipe, filename)
    assert stat.S_ISFIFO((model.folder / "1" / filename).stat().st_mode)
    codes = {finding.rule.code for finding in found(model.folder)}
    assert codes - {"TMR712"} == {"TMR702"}


def test_an_artifact_of_another_name_is_named(tmp_path: Path) -> None:
    model = made(tmp_path / "m", "onnxruntime", lambda path: path.parent, "model.onnx")
    said = []
    for name in ("b.onnx", "a\n.txt", "c", "d"):
        (model.folder / "1" / name).touch()
        said.append(found(model.folder)[0].message.removeprefix("version 1 has no model.onnx; it has "))
    assert said[0] == "'b.onnx'"
    assert said[2:] == [r"'a\n.txt', 'b.onnx', 'c'", r"'a\n.txt', 'b.onnx', 'c', ..."]


@pytest.mark.parametrize("where", ["1/libtriton_onnxruntime.so", "libtriton_onnxruntime.so"])
def test_a_library_of_its_own_decides(tmp_path: Path, where: str) -> None:
    model = made(tmp_path / "m", "onnxruntime", lambda path: path.parent, "model.onnx")
    assert [finding.rule.code for finding in found(model.folder)] == ["TMR701"]
    (model.folder / where).touch()
    assert found(model.folder) == []
    assert backends.is_open(model)
