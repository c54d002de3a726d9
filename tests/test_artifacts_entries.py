"""Entries that bring an artifact along: what is contradictory, what the file tells, and the network that it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from artifact_files import (
    ANSWER,
    IMAGE,
    PIXELS,
    WEIGHT,
    Scores,
    scores,
    write_ir,
    write_onnx,
    write_package,
    write_program,
    written,
)
from onnx import TensorProto, helper
from pydantic import BaseModel, Field

from builder.build import adopted, artifact_entry
from builder.errors import ManifestError, NetworkError
from builder.exporters.interfaces import interface
from builder.networks import artifact as as_network
from builder.networks import heads
from builder.tasks.images import artifacts
from builder.tasks.spec import ModelSpec
from builder.triton.interface import Interface, ToldTensor, inputs_of, own_names
from builder.triton.signature import Signature, TensorSpec
from builder.types import Artifact, Target

__all__ = ["written"]


def spec(**keys: Any) -> ModelSpec:
    return ModelSpec.model_validate(keys, strict=False)


def resolved(folder: Path, **keys: Any) -> tuple[ModelSpec, Artifact | None]:
    batch = keys.pop("max_batch_size", 8)
    asked = spec(**keys).model_copy(update={"max_batch_size": batch} | ({"calibration": keys.pop("calibration", None)}))

    def error(message: str, *where: str | int) -> ManifestError:
        return ManifestError(f"models.yaml:3: models.m.{'.'.join(map(str, where))}: {message}")

    return artifact_entry.resolve(asked, folder, keys.__contains__, error)


def test_the_file_tells_format_and_precision(written: dict[str, Path]) -> None:
    folder = written[".pt"].parent
    found = {suffix: resolved(folder, artifact=f"model{suffix}")[0] for suffix in (".onnx", ".xml", ".pt")}
    assert {suffix: one.format for suffix, one in found.items()} == {
        ".onnx": "onnx",
        ".xml": "openvino",
        ".pt": "torchscript",
    }
    assert {one.precision for one in found.values()} == {"fp32"}
    one, artifact = resolved(folder, artifact="model.onnx", format="openvino", precision="fp16")
    assert (one.format, one.precision, artifact and artifact.path) == ("openvino", "fp16", folder / "model.onnx")


def test_half_files_are_half_entries(tmp_path: Path) -> None:
    write_onnx(tmp_path / "m.onnx", form=TensorProto.FLOAT16)
    assert resolved(tmp_path, artifact="m.onnx")[0].precision == "fp16"
    assert resolved(tmp_path, artifact="m.onnx", format="openvino")[0].precision == "fp16"


def test_programs_are_networks(written: dict[str, Path]) -> None:
    one, artifact = resolved(written[".pt2"].parent, artifact="model.pt2", format="onnx", precision="fp16")
    assert artifact
    assert (artifact.is_program, one.format, one.precision) == (True, "onnx", "fp16")
    network = adopted.network(artifact, None, Path(), Target())
    assert network.interface is None
    assert torch.allclose(network.module(PIXELS), scores(PIXELS), atol=1e-4)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"artifact": "model.onnx", "network": "alexnet"}, "m.network: an artifact holds network.*`reference:`"),
    ({"artifact": "model.onnx", "weights": "random"}, "m.weights: an artifact holds network and weights"),
    ({"artifact": "model.onnx", "arguments": {"a": 1}}, "m.arguments: an artifact"),
    ({"reference": "alexnet"}, "m.reference: only an `artifact:` is held"),
    ({"artifact": "model.xml", "format": "onnx"}, "m.format: model.xml can be shipped as openvino, not as onnx"),
    ({"artifact": "model.onnx", "format": "aoti"}, "m.format: model.onnx can be shipped as onnx or openvino, not"),
    ({"artifact": "model.onnx", "precision": "fp16"}, "m.precision: model.onnx is fp32, and as onnx .* fp32, int8"),
    ({"artifact": "model.pt", "precision": "int8"}, "m.precision: model.pt is fp32, and as torchscript .* fp32;"),
    ({"artifact": "model.onnx", "precision": "int8"}, "m.precision: model.onnx is to be quantised, and `calibration:`"),
    ({"artifact": "model.plan"}, "m.artifact: model.plan is compiled for the GPU; say `device: gpu`"),
    ({"artifact": "cuda.pt2"}, "m.artifact: cuda.pt2 is compiled for the GPU"),
    ({"artifact": "cpu.pt2", "device": "gpu"}, "m.device: cpu.pt2 is compiled for the CPU; say `device: cpu`"),
    ({"artifact": "model.pt2", "reference": "alexnet"}, "m.reference: a program of torch.export is a network"),
    ({"artifact": "one.onnx"}, "m.max_batch_size: pixels of one.onnx is .1, 3, 8, 8.: batches of 1 alone.*"
                               "dynamic_shapes.*`max_batch_size: 1`.*`max_batch_size: 0`"),
    ({"artifact": "four.onnx", "max_batch_size": 1}, "batches of 4 alone, and up to 1 are asked"),
    ({"artifact": "text.onnx"}, "m.artifact: x of text.onnx is text"),
    ({"artifact": "bf16.onnx"}, "m.artifact: x of bf16.onnx is BF16, which NumPy has not; .* cast to FP32"),
    ({"artifact": "number.onnx"}, "m.max_batch_size: y of number.onnx is a single number"),
    ({"artifact": "one.xml"}, "m.max_batch_size: pixels of one.xml"),
    ({"artifact": "fixed.pt2"}, "m.max_batch_size: pixels of fixed.pt2"),
]  # fmt: skip


def write_identity(path: Path, form: int, shape: tuple[str, ...] = ("n",)) -> None:
    values = [helper.make_tensor_value_info(name, form, axes) for name, axes in (("x", ("n",)), ("y", shape))]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph), path)


@pytest.fixture(scope="module")
def folder(written: dict[str, Path]) -> Path:
    found = written[".onnx"].parent
    write_onnx(found / "one.onnx", batch=1)
    write_onnx(found / "four.onnx", batch=4)
    write_ir(found / "one.xml", shape=(1, 3, 8, 8))
    write_program(found / "fixed.pt2", dynamic=False)
    write_package(found / "cuda.pt2", "cuda")
    write_package(found / "cpu.pt2")
    write_identity(found / "text.onnx", TensorProto.STRING)
    write_identity(found / "bf16.onnx", TensorProto.BFLOAT16)
    write_identity(found / "number.onnx", TensorProto.FLOAT, ())
    return found


@pytest.mark.parametrize(("keys", "message"), REFUSED)
def test_contradictions_are_refused_at_their_key(keys: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(ManifestError, match=message):
        resolved(folder, **keys)


def test_damaged_files_are_told_at_their_key(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"x")
    with pytest.raises(NetworkError, match=r"models.yaml:3: models.m.artifact: .*m.onnx cannot be read"):
        resolved(tmp_path, artifact="m.onnx")


@pytest.mark.parametrize(("name", "message"), [("nowhere", "there is no network"), ("none.pt", "does not exist")])
def test_references_are_looked_for_first(name: str, message: str, folder: Path) -> None:
    with pytest.raises(NetworkError, match=f"models.m.reference: .*{message}"):
        resolved(folder, artifact="model.onnx", reference=name)


def test_fixed_batches_that_are_not_asked_to_batch(folder: Path) -> None:
    assert resolved(folder, artifact="one.onnx", max_batch_size=1)[1]
    assert resolved(folder, artifact="four.onnx", max_batch_size=0)[1]


class Given(BaseModel):
    dtype: str
    shape: tuple[int, ...]
    range: tuple[int, int] | None = None


class Declaring(ModelSpec):
    """As a task has it that declares its tensors."""

    inputs: dict[str, Given] = Field(default_factory=dict)
    outputs: dict[str, str] | tuple[str, ...] | None = None


def declared(folder: Path, name: str, **keys: Any) -> Declaring:
    spec = Declaring.model_validate({"artifact": name, "max_batch_size": 8} | keys)

    def error(message: str, *where: str | int) -> ManifestError:
        return ManifestError(f"{'.'.join(map(str, where))}: {message}")

    found, _ = artifact_entry.resolve(spec, folder, keys.__contains__, error)
    assert isinstance(found, Declaring)
    return found


def test_the_file_tells_its_tensors(folder: Path) -> None:
    assert declared(folder, "model.onnx").inputs == {"pixels": Given(dtype="FP32", shape=(3, 8, 8))}
    narrowed = {"pixels": {"dtype": "FP32", "shape": [3, 8, 8], "range": [0, 2]}}
    assert declared(folder, "model.onnx", inputs=narrowed).inputs["pixels"].range == (0, 2)
    assert declared(folder, "model.pt").inputs == {}
    assert declared(folder, "model.pt2", outputs=("mine",)).inputs["pixels"].shape == (3, 8, 8)
    assert declared(folder, "model.pt", inputs=narrowed).inputs["pixels"].shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        ("model.onnx", {"inputs": {"x": {"dtype": "FP32", "shape": [3]}}}, "inputs: model.onnx takes pixels, and the"),
        ("model.pt", {"inputs": {"x": {"dtype": "FP32", "shape": [3]}}}, "inputs: model.pt takes pixels, and the"),
        ("model.onnx", {"outputs": ("y",)}, "outputs: model.onnx gives scores, and is served under these names"),
        ("model.onnx", {"outputs": {"y": "scores"}}, "outputs: model.onnx gives scores"),
    ],
)
def test_declared_tensors_are_held_to_the_file(name: str, keys: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(ManifestError, match=message):
        declared(folder, name, **keys)


# --- what a file does not tell ---

TOLD = Interface((ToldTensor("ids", "INT64", (-1, -1)), ToldTensor("mask")), None)
IDS, MASK = TensorSpec("ids", "INT64", (16,)), TensorSpec("mask", "BOOL", (-1,))


def test_the_entry_tells_the_rest() -> None:
    assert inputs_of(TOLD, [MASK, IDS], True, "m.pt") == (IDS, MASK)
    assert inputs_of(Interface(None, None), [IDS], True, "m.plan") == (IDS,)
    assert inputs_of(Interface((IMAGE,), None), [], True, "m.onnx") == (TensorSpec("pixels", "FP32", (3, 8, 8)),)
    assert inputs_of(Interface((IMAGE,), None), [], False, "m.onnx")[0].shape == (-1, 3, 8, 8)


@pytest.mark.parametrize(
    ("told", "given", "message"),
    [
        (Interface(None, None), [], "m.pt does not tell its inputs; give `inputs:"),
        (TOLD, [], "m.pt does not tell the data type and the shape of mask; give `inputs:"),
        (TOLD, [IDS], "m.pt takes ids, mask, and the entry gives ids"),
        (TOLD, [TensorSpec("ids", "INT32", (16,)), MASK], "ids of m.pt is INT64, and the entry says INT32"),
        (TOLD, [TensorSpec("ids", "INT64", (2, 2)), MASK], r"ids of m.pt is \[-1\], and the entry says \[2, 2\]"),
    ],
)
def test_what_nobody_tells(told: Interface, given: list[TensorSpec], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        inputs_of(told, given, True, "m.pt")


def test_signatures_get_the_files_names() -> None:
    signature = Signature((TensorSpec("INPUT__0", "FP32", (3, 8, 8)),), (TensorSpec("OUTPUT__0", "FP32", (4,)),))
    named = own_names(signature, Interface((IMAGE,), (ANSWER,)))
    assert [tensor.name for tensor in named] == ["pixels", "scores"]
    assert own_names(signature, Interface(None, None)) == signature


# --- as networks ---


def test_artifacts_run_as_networks(written: dict[str, Path]) -> None:
    for suffix in (".onnx", ".xml", ".pt"):
        artifact = Artifact(written[suffix], interface(written[suffix]))
        network = adopted.network(artifact, None, Path(), Target())
        assert torch.allclose(as_network.alone(network.module)(PIXELS), scores(PIXELS), atol=1e-4)
        assert list(network.module.parameters()) == []
        assert (network.trained, network.interface) == (True, artifact.interface)
        assert network.provenance["source"] == written[suffix].name
        assert network.provenance["verified_against"] == "itself"
        assert len(network.provenance["source_sha256"]) == 64


def test_artifacts_are_held_to_other_artifacts(written: dict[str, Path]) -> None:
    artifact = Artifact(written[".onnx"], interface(written[".onnx"]))
    network = adopted.network(artifact, "model.pt", written[".pt"].parent, Target())
    assert network.provenance["verified_against"] == "artifact model.pt"
    assert torch.allclose(network.module(PIXELS)["scores"], scores(PIXELS), atol=1e-4)


def test_artifacts_are_held_to_networks(written: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(
        "from torch import nn\ndef one():\n    return nn.Flatten()\n"
        "class Two(nn.Module):\n    def forward(self, x):\n        return x, x\n"
    )
    artifact = Artifact(written[".onnx"], interface(written[".onnx"]))
    network = adopted.network(artifact, "nets.py:one", tmp_path, Target())
    assert network.provenance["verified_against"] == "network nets.py:one"
    assert torch.equal(network.module(PIXELS)["scores"], PIXELS.flatten(1))
    with pytest.raises(NetworkError, match=r"the artifact gives scores, and nets.py:Two, .* gives 2 of them"):
        adopted.network(artifact, "nets.py:Two", tmp_path, Target()).module(PIXELS)


def test_files_with_their_weights_are_known_to_provenance(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", external="w")
    facts = as_network.provenance(path, interface(path).beside)
    assert set(facts) == {"source", "source_sha256", "source_weights_sha256"}
    assert adopted.files_of(Artifact(path, interface(path))) == (path, tmp_path / "w")


def test_half_outputs_stay_what_the_file_says(tmp_path: Path) -> None:
    """The config says what the file says, and its head, in this process, has to give that, too."""
    path = write_onnx(tmp_path / "m.onnx", form=TensorProto.FLOAT16)
    artifact = Artifact(path, interface(path))
    network = adopted.network(artifact, None, Path(), Target())
    head = heads.with_head(network.module, ["INPUT__0"], lambda result: tuple(result.values()))
    assert head(PIXELS.half()).dtype == torch.float16
    assert as_network.alone(network.module)(PIXELS.half()).dtype == torch.float32
    held = as_network.named_as(Scores(torch.from_numpy(WEIGHT)), artifact.interface, "network")
    assert held(PIXELS)["scores"].dtype == torch.float16


# --- as classifiers of images ---


def told(inputs: list[ToldTensor] | None, outputs: list[ToldTensor] | None, suffix: str = ".onnx") -> Artifact:
    listed = (tuple(tensors) if tensors is not None else None for tensors in (inputs, outputs))
    return Artifact(Path(f"m{suffix}"), Interface(*listed))


NOT_CLASSIFIERS: list[tuple[Artifact, str]] = [
    (told([IMAGE, IMAGE], [ANSWER]), "takes pixels, pixels, and a classifier has one image alone"),
    (told([IMAGE], [ANSWER, ANSWER]), "gives scores, scores, and a classifier has the classes' scores alone"),
    (told([ToldTensor("x", "FP32", (-1, 224, 224, 3))], [ANSWER]), "channels last.*inputs-as-nchw x.*task: tensors"),
    (told([ToldTensor("x", "UINT8", (-1, 3, 8, 8))], [ANSWER]), "takes x as UINT8.*scaled and normalised"),
    (told([ToldTensor("x", "FP16", (-1, 3, 8, 8))], [ANSWER]), "takes x as FP16.*keep_io_types=True"),
    (told([ToldTensor("x", "FP32", (-1, 16))], [ANSWER]), "images are .B, C, H, W."),
    (told([IMAGE], [ToldTensor("y", "INT64", (-1,))]), "gives y as INT64.*argmax"),
    (told([IMAGE], [ToldTensor("y", "FP32", (-1, 4, 2))]), "scores are .B, classes."),
    (told([ToldTensor("pixels")], None, ".pt"), "no softmax can be put behind m.pt.*`activation: none`"),
]


@pytest.mark.parametrize(("artifact", "message"), NOT_CLASSIFIERS)
def test_what_cannot_classify_images(artifact: Artifact, message: str) -> None:
    format_name = "torchscript" if artifact.path.suffix == ".pt" else "onnx"
    with pytest.raises(ManifestError, match=message):
        artifacts.require_classifier(artifact, format_name, "softmax")


def test_what_can_classify_images() -> None:
    artifacts.require_classifier(told([IMAGE], [ANSWER]), "onnx", "softmax")
    artifacts.require_classifier(told([ToldTensor("x")], None, ".pt"), "torchscript", "none")
    artifacts.require_classifier(told([ToldTensor("x", "FP32", (-1, -1, -1, -1))], [ANSWER]), "openvino", "sigmoid")
    artifacts.require_classifier(told([ToldTensor("x", "FP32", (-1, 3, 3, 3))], [ANSWER]), "onnx", "none")


def test_the_recipe_is_held_to_the_files_size() -> None:
    artifacts.require_size(Interface((IMAGE,), None), (3, 8, 8), "m.onnx")
    with pytest.raises(ManifestError, match=r"m.onnx takes images of 3x8x8, and these keys give 3x16x16"):
        artifacts.require_size(Interface((IMAGE,), None), (3, 16, 16), "m.onnx")
