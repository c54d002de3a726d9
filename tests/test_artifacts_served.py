"""Artifacts that users bring along, from their files to the answers of the real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import tritonclient.grpc as triton_grpc
from artifact_files import PIXELS, WEIGHT, Scores, scores, write_ir, write_onnx, write_program, write_torchscript
from conftest import ANY_PORTS, build
from onnx import TensorProto, helper

from builder.data.images import SAMPLES
from builder.exporters import EXPORTERS
from builder.launchers import LAUNCHERS
from builder.repository import layout
from builder.triton import model_config
from builder.types import Endpoints, Target
from client import Client

IMAGE = "preprocess: {channels: 3, resize: 8, crop: 8, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}"
BY_NAME = "inputs: {pixels: {dtype: FP32, shape: [3, 8, 8]}}"
MANIFEST = f"""
models:
  tensors_onnx: {{artifact: theirs.onnx, task: tensors}}
  tensors_openvino: {{artifact: theirs.onnx, task: tensors, format: openvino}}
  tensors_ir: {{artifact: theirs.xml, task: tensors, reference: theirs.onnx}}
  tensors_torchscript: {{artifact: theirs.pt, task: tensors, outputs: [scores], {BY_NAME}}}
  tensors_program: {{artifact: theirs.pt2, task: tensors, format: onnx, outputs: [scores], {BY_NAME}}}
  whole: {{artifact: fixed.onnx, task: tensors, max_batch_size: 0}}
  photos_onnx: {{artifact: theirs.onnx, labels: [a, b, c, d], {IMAGE}}}
  photos_sigmoid: {{artifact: theirs.xml, activation: sigmoid, labels: [a, b, c, d], {IMAGE}}}
  photos_none: {{artifact: probabilities.onnx, activation: none, labels: [a, b, c, d], {IMAGE}}}
"""
PACKAGE = f"  tensors_aoti: {{artifact: package.pt2, task: tensors, outputs: [scores], {BY_NAME}}}\n"
BATCHED = ["tensors_onnx", "tensors_openvino", "tensors_ir", "tensors_torchscript", "tensors_program"]


def write_probabilities(source: Path, path: Path) -> None:
    model = onnx.load(source)
    model.graph.node[-1].output[0] = "logits"
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["scores"], axis=1))
    onnx.save(model, path)


def write_package(path: Path) -> None:
    sizes = ({0: torch.export.Dim("batch", min=1, max=8)},)
    program = torch.export.export(Scores(torch.from_numpy(WEIGHT)).eval(), (PIXELS,), dynamic_shapes=sizes)
    torch._inductor.aoti_compile_and_package(program, package_path=str(path))


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served artifacts")
    write_onnx(folder / "theirs.onnx", external="weights/theirs")
    write_onnx(folder / "fixed.onnx", batch=2)
    write_ir(folder / "theirs.xml")
    write_torchscript(folder / "theirs.pt")
    write_program(folder / "theirs.pt2")
    write_probabilities(write_onnx(folder / "plain.onnx"), folder / "probabilities.onnx")
    manifest = MANIFEST
    if not EXPORTERS["aoti"].refusal(Target()):
        write_package(folder / "package.pt2")
        manifest += PACKAGE
    build(folder, manifest)
    return folder / "repository"


@pytest.fixture(scope="module")
def endpoints(adopted: Path) -> Iterator[Endpoints]:
    running = LAUNCHERS["embedded"].launch(adopted, ANY_PORTS)
    yield running.endpoints
    running.stop()


def ask(url: str, model: str, pixels: np.ndarray) -> np.ndarray:
    with triton_grpc.InferenceServerClient(url) as server:
        given = triton_grpc.InferInput("pixels", list(pixels.shape), "FP32")
        given.set_data_from_numpy(pixels)
        answer = server.infer(model, [given]).as_numpy("scores")
    assert answer is not None
    return answer


def test_they_compute_what_their_files_compute(adopted: Path, endpoints: Endpoints) -> None:
    """One server and all formats: a build of each is what takes the time."""
    expected = scores(PIXELS).numpy()
    packages = ["tensors_aoti"] if (adopted / "tensors_aoti").exists() else []
    for model in [*BATCHED, *packages]:
        for size in (1, 3, 5):
            found = ask(endpoints.grpc, model, PIXELS[:size].numpy())
            assert np.allclose(found, expected[:size], atol=1e-3), model
    assert np.allclose(ask(endpoints.grpc, "whole", PIXELS[:2].numpy()), expected[:2], atol=1e-3)
    with Client(endpoints.grpc) as client:
        photo = SAMPLES / "chelsea.jpg"
        alike, sigmoid, none = (
            client.probabilities([photo], name)[0] for name in ("photos_onnx", "photos_sigmoid", "photos_none")
        )
    assert np.allclose(alike, none, atol=1e-5)
    assert abs(alike.sum() - 1) < 1e-5
    logits = np.log(sigmoid) - np.log1p(-sigmoid)  # they are the softmax's, but for a constant
    assert np.allclose(np.exp(logits) / np.exp(logits).sum(), alike, atol=1e-3)


def facts_of(repository: Path, model: str) -> dict[str, str]:
    config = model_config.read(repository / model / layout.CONFIG)
    return {name: value.string_value for name, value in config.parameters.items()}


def test_configs_say_what_was_adopted_and_what_it_was_held_to(adopted: Path) -> None:
    facts = facts_of(adopted, "tensors_onnx")
    assert (facts["source"], facts["verified_against"], facts["opset"]) == ("theirs.onnx", "itself", "18")
    assert len(facts["source_sha256"]) == len(facts["source_weights_sha256"]) == 64
    assert facts_of(adopted, "tensors_ir")["verified_against"] == "artifact theirs.onnx"
    assert json.dumps(facts_of(adopted, "tensors_torchscript"))  # whatever else is recorded is text


def test_half_precision_files_are_served_as_they_are(tmp_path: Path) -> None:
    write_onnx(tmp_path / "half.onnx", form=TensorProto.FLOAT16)
    (built,) = build(tmp_path, "models:\n  half: {artifact: half.onnx, task: tensors}\n")
    assert built.precision == "fp16"
    config = model_config.read(tmp_path / "repository" / built.network_model / layout.CONFIG)
    assert [tensor.data_type for tensor in (*config.input, *config.output)] == [10, 10]  # TYPE_FP16
