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
from builder.repository import detections, golden
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


def finds(boxes: list[list[float]], scores: list[float], classes: list[int]) -> dict[str, GoldenTensor]:
    """As a detector answers, padded to four."""
    most, count = 4, len(scores)
    arrays = {
        "BOXES": np.zeros((1, most, 4), "<f4"),
        "SCORES": np.zeros((1, most), "<f4"),
        "CLASSES": np.zeros((1, most), "<i4"),
        "COUNT": np.full((1, 1), count, "<i4"),
    }
    for name, values in zip(arrays, (boxes, scores, classes), strict=False):
        if count:
            arrays[name][0, :count] = values
    kinds = {"<f4": "FP32", "<i4": "INT32"}
    return {name: GoldenTensor(name, kinds[a.dtype.str], a.shape, a.tobytes()) for name, a in arrays.items()}


LEFT, RIGHT = [0.0, 0, 10, 10], [20.0, 0, 30, 10]
BOTH = finds([LEFT, RIGHT], [0.8, 0.8], [1, 2])


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (BOTH, ""),
        (finds([RIGHT, LEFT], [0.8, 0.7995], [2, 1]), ""),
        (finds([RIGHT, LEFT], [0.8, 0.79], [2, 1]), "1 of 2 detections are others than were recorded, allowed 0"),
        (finds([RIGHT, LEFT], [0.8, 0.8], [1, 2]), "2 of 2 detections"),
        (finds([LEFT, [22.0, 0, 32, 10]], [0.8, 0.8], [1, 2]), "1 of 2 detections"),
        (finds([LEFT], [0.8], [1]), "1 of 2 detections"),
        (finds([LEFT, RIGHT, RIGHT], [0.8, 0.8, 0.8], [1, 2, 2]), "1 of 3 detections"),
        (finds([], [], []), "2 of 2 detections"),
        (
            BOTH | {"SCORES": replace(BOTH["SCORES"], shape=(1, 5))},
            "SCORES is FP32 [1, 5], and FP32 [1, 4] was recorded",
        ),
        (BOTH | {"SCORES": replace(BOTH["SCORES"], data=b"1")}, "SCORES has 1 bytes, and 16 were recorded"),
        ({name: tensor for name, tensor in BOTH.items() if name != "COUNT"}, "there is no COUNT"),
    ],
)
def test_detections_are_the_same_in_any_order(found: dict[str, GoldenTensor], wrong: str) -> None:
    told = golden.unlike(Golden((), tuple(BOTH.values())), found, 1e-3)
    assert told.startswith(wrong) if wrong else told == ""


def test_a_tenth_of_many_detections_may_be_others() -> None:
    boxes = np.arange(40, dtype="<f4").reshape(10, 4) * 10
    answer = {"SCORES": np.full((1, 10), 0.5), "CLASSES": np.ones((1, 10)), "COUNT": np.array([[10]])}
    moved = boxes.copy()
    moved[0] += 500
    sides = [answer | {"BOXES": some[None]} for some in (boxes, moved)]
    assert detections.difference(*sides, 1e-3) == ""
    moved[1] += 500
    assert detections.difference(*sides, 1e-3).startswith("2 of 10 detections")
