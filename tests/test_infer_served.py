"""The real server: named tensors of every type, and several labels at once."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import text_models
from by_hand import add
from conftest import ANY_PORTS
from PIL import Image

from builder.launchers import LAUNCHERS
from builder.types import Endpoints
from client import Client, InvalidInput, to_bf16
from client.cli import app
from client.tasks.arrays import DTYPES

ECHO = """
import json
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.names = [one["name"] for one in json.loads(args["model_config"])["input"]]

    def execute(self, requests):
        return [pb_utils.InferenceResponse(self.echoed(request)) for request in requests]

    def echoed(self, request):
        given = {name: pb_utils.get_input_tensor_by_name(request, name) for name in self.names}
        return [self.tensor(f"{name}_out", tensor) for name, tensor in given.items() if tensor is not None]

    def tensor(self, name, tensor):
        if name == "bf16_out":  # which NumPy has not
            return pb_utils.Tensor.from_dlpack(name, tensor.to_dlpack())
        return pb_utils.Tensor(name, tensor.as_numpy())
"""
SCORES = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        rows = [len(pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy()) for request in requests]
        scores = [np.float32([SCORES] * count) for count in rows]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("PROBABILITIES", one)]) for one in scores]
"""
ENCODER = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(self.encoded(request)) for request in requests]

    def encoded(self, request):
        ids, mask = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("ids", "mask"))
        hidden = np.float32((ids * mask)[..., None] + np.arange(4))
        outputs = {"last_hidden": hidden, "pooled": hidden.mean(1)}
        return [pb_utils.Tensor(name, array) for name, array in outputs.items()]
"""
FINDER = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(self.found(request)) for request in requests]

    def found(self, request):
        pictures = len(pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy())
        values = {
            "BOXES": np.float32([[1, 1, 5, 4], [0, 0, 0, 0]]),
            "SCORES": np.float32([0.75, 0]),
            "CLASSES": np.int32([1, 0]),
            "COUNT": np.int32([1]),
        }
        return [pb_utils.Tensor(name, np.stack([value] * pictures)) for name, value in values.items()]
"""
FINDERS = (
    'input { name: "IMAGE" data_type: TYPE_STRING dims: 1 }\n'
    'output { name: "BOXES" data_type: TYPE_FP32 dims: [2, 4] }\n'
    'output { name: "SCORES" data_type: TYPE_FP32 dims: 2 } output { name: "COUNT" data_type: TYPE_INT32 dims: 1 }\n'
    'output { name: "CLASSES" data_type: TYPE_INT32 dims: 2 }\n'
)
PAINTER = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        mask = pb_utils.Tensor("MASK", np.eye(6, 8, dtype=np.uint8)[None])
        return [pb_utils.InferenceResponse([mask]) for _ in requests]
"""
PAINTERS = (
    'input { name: "IMAGE" data_type: TYPE_STRING dims: 1 }\n'
    'output { name: "MASK" data_type: TYPE_UINT8 dims: [-1, -1] }\n'
)
ENCODERS = (
    'input { name: "ids" data_type: TYPE_INT64 dims: -1 } input { name: "mask" data_type: TYPE_INT64 dims: -1 }\n'
    'output { name: "last_hidden" data_type: TYPE_FP32 dims: [-1, 4] }\n'
    'output { name: "pooled" data_type: TYPE_FP32 dims: 4 }\n'
)
PAGE = (Path(__file__).parent.parent / "docs" / "clients.md").read_text(encoding="utf-8")
COMMANDS = re.compile(r"^repo-client .*$", re.MULTILINE)
PROGRAMS = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = {**{name: name for name in DTYPES}, "BYTES": "STRING", "BF16": "BF16"}


def echo(repository: Path, name: str, tensors: dict[str, tuple[str, str]], most: int) -> None:
    """Its outputs are named as its inputs, with _out; without rows, each may be left out."""
    lines = [
        f'input {{ name: "{one}" data_type: TYPE_{kind} dims: {dims} {"" if most else "optional: true"} }}\n'
        f'output {{ name: "{one}_out" data_type: TYPE_{kind} dims: {dims} }}\n'
        for one, (kind, dims) in tensors.items()
    ]
    add(repository, name, ECHO, "".join(lines), most, task="tensors")


def tagger(repository: Path, name: str, scores: list[float], labels: list[str], activation: str = "sigmoid") -> None:
    (repository / name).mkdir(parents=True)
    (repository / name / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    config = (
        'input { name: "IMAGE" data_type: TYPE_STRING dims: 1 }\n'
        f'output {{ name: "PROBABILITIES" data_type: TYPE_FP32 dims: {len(scores)} label_filename: "labels.txt" }}\n'
    )
    code = SCORES.replace("SCORES", str(scores))
    add(repository, name, code, config, 8, task="classification", activation=activation)


@pytest.fixture(scope="module")
def hand_written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    repository = tmp_path_factory.mktemp("by hand") / "repository"
    echo(repository, "whole", {kind.lower(): (triton, "-1") for kind, triton in KINDS.items()}, 0)
    echo(repository, "rows", {"ids": ("INT64", "-1"), "boxes": ("FP32", "[-1, 4]")}, 8)
    tagger(repository, "tagger", [0.25, 0.875, 0.5], ["cat", "dog: large", "red"])
    tagger(repository, "single", [0.75], ["yes"])
    tagger(repository, "digits", [0.3, 0.6, 0.1], ["0", "1", "2"], "softmax")
    add(repository, "encoder", ENCODER, ENCODERS, 8, task="tensors")
    add(repository, "finder", FINDER, FINDERS, 8, task="detection")
    text_models.write(repository)
    add(repository, "painter", PAINTER, PAINTERS, 8, task="segmentation")
    running = LAUNCHERS["embedded"].launch(repository, replace(ANY_PORTS, verify_integrity=False))
    yield running.endpoints
    running.stop()


def example(kind: str) -> Any:
    if kind == "BYTES":
        return np.array([b"a\0b\xff", "é".encode(), b""], object)
    numbers = np.array([0, 1, 1, 0, 1]) if kind == "BOOL" else np.arange(5) * 1.5
    return to_bf16(numbers) if kind == "BF16" else numbers.astype(DTYPES[kind])


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_server_takes_what_the_client_sends(protocol: str, hand_written: Endpoints) -> None:
    """Every type, with shared memory and without, whole and by rows. One server is started for all of it."""
    url = hand_written.grpc if protocol == "grpc" else f"http://{hand_written.http.removeprefix('http://')}"
    for shared in (False, True):
        with Client(url, shared_memory=shared) as client:
            assert client.model("whole").optional == tuple(kind.lower() for kind in KINDS)
            for kind in KINDS:
                (answer,) = client.infer("whole", {kind.lower(): example(kind)}, [f"{kind.lower()}_out"]).values()
                assert answer.tolist() == example(kind).tolist(), kind
            inputs = {"ids": np.arange(40).reshape(20, 2), "boxes": np.ones((20, 3, 4), np.float32)}
            with pytest.raises(InvalidInput, match="at most 8 rows"):
                client.infer("rows", inputs)
            assert client.infer("rows", inputs, split=True)["ids_out"].tolist() == inputs["ids"].tolist()
            assert [(one.label, one.probability) for one in client.classify(b"x", "tagger")] == [
                ("dog: large", 0.875),
                ("red", 0.5),
            ]
            assert [one.class_id for one in client.classify(b"x", "tagger", threshold=0)] == [1, 2, 0]
            assert client.classify(b"x", "single")[0].label == "yes"
            assert client.classify(b"x", "single", threshold=0.8) == ()


def test_the_page_on_clients_is_true(
    hand_written: Endpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its commands and programs, in their order, in a folder with the files that they name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPO_CLIENT_URL", hand_written.grpc)
    prepare(tmp_path)
    for line in COMMANDS.findall(PAGE):
        words = shlex.split(line)
        if "<" in words:
            bin_folder = Path(sys.executable).parent
            subprocess.run(f"{bin_folder / line}", shell=True, check=True, capture_output=True, timeout=120)
        else:
            app(words[1:], standalone_mode=False)
    for text in PROGRAMS.findall(PAGE):
        exec(compile(text.replace("localhost:8001", hand_written.grpc), "docs/clients.md", "exec"), {})
    told = capsys.readouterr().out
    assert "float32, and INT64 is wanted" in told
    assert Path("tags.csv").read_text().splitlines() == [
        "path,error,count,labels,classes,probabilities",
        "photos/a.png,,2,dog: large;red,1;2,0.875;0.5",
    ]
    for name in ("found.png", "tinted.png"):
        with Image.open(name) as drawn:
            assert drawn.size == (8, 6)
    assert Path("found.csv").read_text().splitlines()[1].startswith("photos/a.png,")
    assert np.load("many-answers.npz")["pooled"].shape == (20, 4)


def prepare(folder: Path) -> None:
    (folder / "photos").mkdir()
    for name in ("photo.png", "photos/a.png"):
        (folder / name).write_bytes(b"png")
    Image.new("RGB", (8, 6), "teal").save(folder / "street.jpg")
    ids = np.array([[101, 7592, 102]])
    np.save("ids.npy", ids)
    np.save("mask.npy", np.ones_like(ids))
    np.savez("both.npz", ids=ids, mask=np.ones_like(ids))
    (folder / "quotes.txt").write_text("a good day\nno day\n\na good night\n")
    np.savez("many.npz", ids=ids.repeat(20, 0), mask=np.ones((20, 3), int))
