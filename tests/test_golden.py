"""Requests with their answers are published with every version, and are what a real server gives."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from conftest import VARIANTS, build, model_of
from hypothesis import given
from hypothesis import strategies as st
from rebuilding import entry

from builder.errors import RepositoryError
from builder.repository import golden
from builder.repository.golden import Golden, GoldenSet, GoldenTensor
from builder.types import Endpoints

FLOATS = GoldenTensor("y", "FP32", (1, 2), struct.pack("<2f", 4.0, -2.0))
SERVED = [*(model_of(*variant) for variant in VARIANTS), "tags", "unlabelled"]


def version_of(repository: Path, model: str) -> Path:
    return max(repository.glob(f"{model}/[0-9]*"))


@pytest.mark.parametrize("model", SERVED)
def test_the_server_answers_what_was_recorded(repository: Path, server: Endpoints, model: str) -> None:
    recorded = golden.read(version_of(repository, model))
    assert recorded
    assert recorded.samples
    with triton.InferenceServerClient(server.grpc) as client:
        for sample in recorded.samples:
            for tensor in sample.outputs:
                assert golden.difference(tensor, asked(client, model, sample, tensor.name), recorded.tolerance) == ""


def asked(client: triton.InferenceServerClient, model: str, sample: Golden, output: str) -> GoldenTensor:
    inputs = []
    for tensor in sample.inputs:
        given = triton.InferInput(tensor.name, list(tensor.shape), tensor.data_type)
        given._raw_content = tensor.data
        inputs.append(given)
    answer = client.infer(model, inputs)
    told = answer.get_output(output)
    return GoldenTensor(output, told.datatype, tuple(told.shape), answer.as_numpy(output).tobytes())


def test_another_network_of_the_shape_is_seen(tmp_path: Path) -> None:
    for seed in ("1", "2"):
        build(tmp_path, "models:\n" + entry(seed=seed))
    one, other = (golden.read(tmp_path / "repository" / "m" / str(version)) for version in (1, 2))
    assert one
    assert other
    assert len(one.samples) > 1  # photos of this package, which every version is asked
    for ours, theirs in zip(one.samples, other.samples, strict=True):
        assert ours.inputs == theirs.inputs
        assert "is off by" in golden.difference(ours.outputs[0], theirs.outputs[0], one.tolerance)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (FLOATS, ""),
        (replace(FLOATS, data=struct.pack("<2f", 4.003, -2.0)), ""),
        (replace(FLOATS, data=struct.pack("<2f", 4.0, -2.01)), "off by 0.25%"),
        (replace(FLOATS, data=struct.pack("<2f", 4.0, float("nan"))), "not finite"),
        (replace(FLOATS, shape=(2,)), "FP32 [2]"),
        (replace(FLOATS, data_type="FP64"), "FP64"),
        (replace(FLOATS, data=b"1234"), "4 bytes"),
    ],
)
def test_differences(found: GoldenTensor, words: str) -> None:
    told = golden.difference(FLOATS, found, 1e-3)
    assert words in told
    assert bool(told) == bool(words)


def test_whole_numbers_and_bytes_are_exact() -> None:
    number = GoldenTensor("n", "INT64", (1,), struct.pack("<q", 2**53))
    assert golden.difference(number, number, 0.5) == ""
    assert golden.difference(number, replace(number, data=struct.pack("<q", 2**53 + 1)), 0.5)
    text = GoldenTensor("t", "BYTES", (1,), struct.pack("<I", 1) + b"a")
    assert golden.difference(text, replace(text, data=struct.pack("<I", 1) + b"b"), 0.5)


@given(st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_sixteen_bits_are_compared_by_value(numbers: list[float]) -> None:
    half = GoldenTensor("h", "FP16", (len(numbers),), np.array(numbers, "<f2").tobytes())
    brain = replace(half, data_type="BF16", data=(np.array(numbers, "<f4").view("<u4") >> 16).astype("<u2").tobytes())
    for tensor in (half, brain):
        assert golden.difference(tensor, tensor, 0.0) == ""
        values = golden.values(tensor)
        assert values is not None
        assert np.allclose(values, numbers, rtol=1e-2, atol=1e-38)


def test_they_are_read_as_they_were_written_and_kept_small(tmp_path: Path) -> None:
    large = replace(FLOATS, shape=(1, golden.MOST_BYTES // 8), data=bytes(golden.MOST_BYTES // 2))
    one = Golden((large,), (FLOATS,))
    golden.write(tmp_path, GoldenSet((one, one, one), 0.5))
    assert golden.read(tmp_path) == GoldenSet((one,), 0.5)
    assert golden.read(tmp_path / "nowhere") is None
    (tmp_path / golden.FILENAME).write_text('{"golden": 1, "samples": 3}')
    with pytest.raises(RepositoryError, match="build the model again"):
        golden.read(tmp_path)
