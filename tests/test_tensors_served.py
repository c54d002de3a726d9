"""Networks with several named inputs and outputs, in each format that a CPU runs, on the real server.

Half a minute: each format converts a network of two inputs of any length, and one that does not batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tritonclient.grpc as triton
from conftest import ANY_PORTS, VARIANTS, build

from builder.launchers import LAUNCHERS
from builder.util.usercode.modules import import_file

# AOTInductor compiles for most of a minute: test_named_tensors.py has its packages, and test_artifacts_served.py serves
# one.
FORMATS = [name for name, precision in VARIANTS if precision == "fp32" and name != "aoti"]

NETWORKS = """
import torch
from torch import nn


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.query = nn.Embedding(50, 8), nn.Linear(8, 8)

    def forward(self, ids, mask):
        hidden = self.embedding(ids)
        scores = self.query(hidden) @ hidden.transpose(1, 2)
        found = scores.masked_fill(mask[:, None] == 0, -1e4).softmax(-1) @ hidden
        weights = mask.unsqueeze(-1).to(found.dtype)
        pooled = (found * weights).sum(1) / weights.sum(1)
        return {"last hidden": found, "pooled": pooled, "label": pooled.argmax(1), "attentions": None}


class Cloud(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 4)

    def forward(self, points, scale):
        each = self.layer(points * scale).relu()
        return each, each.amax(0)


encoder, cloud = Encoder, Cloud
"""


def _encoder(name: str) -> str:
    return f"""
  encoder_{name}:
    task: tensors
    network: nets.py:encoder
    weights: included
    samples: [short.npz, long.npz]
    outputs: {{last hidden: last hidden, pooled: pooled, label: label}}
    max_batch_size: 4
    format: {name}
"""


def _cloud(name: str) -> str:
    return f"""
  cloud_{name}:
    task: tensors
    network: nets.py:cloud
    weights: included
    samples: nets_samples.py:clouds
    outputs: [features, whole]
    max_batch_size: 0
    format: {name}
"""


SAMPLES = """
import numpy as np


def clouds():
    draw = np.random.default_rng(0)
    for count in (5, 9, 5, 6):
        yield {"points": draw.standard_normal((count, 3)).astype("float32"), "scale": np.float32([1 + count])}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models are built, by the networks and samples beside the manifest."""
    folder = tmp_path_factory.mktemp("tensors")
    (folder / "nets.py").write_text(NETWORKS)
    (folder / "nets_samples.py").write_text(SAMPLES)
    draw = np.random.default_rng(0)
    for name, shape in {"short": (5, 6), "long": (3, 11)}.items():
        mask = np.arange(shape[1]) < draw.integers(2, shape[1] + 1, (shape[0], 1))
        np.savez(folder / f"{name}.npz", ids=draw.integers(0, 50, shape), mask=mask.astype("int64"))
    build(folder, "models:" + "".join([*map(_encoder, FORMATS), *map(_cloud, FORMATS)]))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[triton.InferenceServerClient]:
    running = LAUNCHERS["embedded"].launch(folder / "repository", ANY_PORTS)
    with triton.InferenceServerClient(running.endpoints.grpc) as client:
        yield client
    running.stop()


def asked(client: Any, model: str, outputs: list[str], **inputs: np.ndarray[Any, Any]) -> dict[str, Any]:
    given = []
    for name, array in inputs.items():
        given.append(triton.InferInput(name, list(array.shape), triton.np_to_triton_dtype(array.dtype)))
        given[-1].set_data_from_numpy(array)
    answer = client.infer(model, given)
    return {name: answer.as_numpy(name) for name in outputs}


@pytest.mark.parametrize("name", FORMATS)
def test_served_batches_of_any_length_are_the_networks_own(name: str, folder: Path, server: Any) -> None:
    """Lengths and batch sizes that were among the samples, and others; the same names in all formats."""
    network = import_file(folder / "nets.py", folder).encoder()
    draw = np.random.default_rng(1)
    for shape in ((1, 6), (4, 11), (3, 8), (2, 2)):
        ids, mask = draw.integers(0, 50, shape), np.ones(shape, "int64")
        with torch.inference_mode():
            expected = network(torch.from_numpy(ids), torch.from_numpy(mask))
        found = asked(server, f"encoder_{name}", ["last hidden", "pooled", "label"], ids=ids, mask=mask)
        for output, array in found.items():
            wanted = expected[output].numpy().reshape(array.shape)  # one number a sample has an axis to clients
            np.testing.assert_allclose(array, wanted, rtol=1e-4, atol=1e-5)
        assert (found["label"].dtype, found["label"].shape) == (np.int64, (shape[0], 1))


@pytest.mark.parametrize("name", FORMATS)
def test_networks_that_do_not_batch_are_served_whole(name: str, folder: Path, server: Any) -> None:
    network = import_file(folder / "nets.py", folder).cloud()
    for count in (5, 12):
        points, scale = np.random.default_rng(2).standard_normal((count, 3)).astype("float32"), np.float32([2])
        with torch.inference_mode():
            expected = network(torch.from_numpy(points), torch.from_numpy(scale))
        found = asked(server, f"cloud_{name}", ["features", "whole"], points=points, scale=scale)
        for array, tensor in zip(found.values(), expected, strict=True):
            np.testing.assert_allclose(array, tensor.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FORMATS)
def test_the_served_model_says_what_it_takes(name: str, server: Any) -> None:
    config = server.get_model_config(f"encoder_{name}", as_json=True)["config"]
    assert config["parameters"]["task"]["string_value"] == "tensors"
    assert {(one["name"], one["data_type"], tuple(one["dims"])) for one in config["input"]} == {
        ("ids", "TYPE_INT64", ("-1",)),
        ("mask", "TYPE_INT64", ("-1",)),
    }
    assert {one["name"]: (one["data_type"], one["dims"]) for one in config["output"]} == {
        "last hidden": ("TYPE_FP32", ["-1", "8"]),
        "pooled": ("TYPE_FP32", ["8"]),
        "label": ("TYPE_INT64", ["1"]),
    }
