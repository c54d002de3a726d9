"""Named tensors: what fits a model is sent as it is, and what does not is refused before."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lengths
import numpy as np
import pyarrow.parquet
import pytest
from connecting import BOTH, Connect
from fake_triton import FakeTriton, Named, serving
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from client import Client, InvalidInput, ModelNotFound, ServerError, to_bf16
from client.batch.run import Question, Table, ask_into
from client.batch.sources import Images
from client.batch.tables import WRITERS
from client.tasks import TASKS, named, recognised, tensors
from client.tasks.arrays import DTYPES, as_sent
from client.tasks.exchange import Exchange
from client.types import ModelInfo, TensorInfo

BATCHED = Named(
    {"ids": ("INT64", [-1, -1]), "mask": ("FP32", [-1, 2])}, {"x": ("INT64", [-1, -1]), "y": ("FP32", [-1, 2])}, 8
)
WHOLE = Named(
    {"a": ("INT32", [2, -1]), "b": ("BYTES", [-1])}, {"c": ("INT32", [2, -1]), "d": ("BYTES", [-1])}, 0, ("b",)
)
IDS, MASK = np.arange(6).reshape(2, 3), np.ones((2, 2), np.float32)


@pytest.fixture(params=BOTH.values(), ids=BOTH)
def connect(request: pytest.FixtureRequest) -> Connect:
    kind: Connect = request.param
    return kind


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[FakeTriton, str]]:
    with serving() as running:
        running[0].named = {"batched": BATCHED, "whole": WHOLE}
        yield running


def infer(connect: Connect, shared: tuple[FakeTriton, str], *arguments: Any, **options: Any) -> dict[str, np.ndarray]:
    with connect(shared[1]) as client:
        answer: dict[str, np.ndarray] = client.infer(*arguments, **options)
    return answer


def test_arrays_come_back_by_name(connect: Connect, shared: tuple[FakeTriton, str]) -> None:
    answer = infer(connect, shared, "batched", {"mask": MASK, "ids": IDS})
    assert list(answer) == ["x", "y"]
    assert answer["x"].tolist() == IDS.tolist()
    assert answer["y"].dtype == np.float32


def test_only_chosen_outputs_are_asked_for(connect: Connect, shared: tuple[FakeTriton, str]) -> None:
    assert list(infer(connect, shared, "batched", {"ids": IDS, "mask": MASK}, outputs=["y"])) == ["y"]
    assert [output.name for output in shared[0].requests[-1].outputs] == ["y"]


def test_optional_inputs_may_be_left_out(connect: Connect, shared: tuple[FakeTriton, str]) -> None:
    assert infer(connect, shared, "whole", {"a": [[1], [2]]})["c"].tolist() == [[1], [2]]
    answer = infer(connect, shared, "whole", {"a": [[1], [2]], "b": ["é", b"\xff\0"]})
    assert answer["d"].tolist() == ["é".encode(), b"\xff\0"]


def test_rows_beyond_the_largest_batch_are_split_on_demand(connect: Connect, shared: tuple[FakeTriton, str]) -> None:
    before = len(shared[0].requests)
    inputs = {"ids": np.arange(40).reshape(20, 2), "mask": np.ones((20, 2), np.float32)}
    answer = infer(connect, shared, "batched", inputs, split=True)
    assert answer["x"].tolist() == inputs["ids"].tolist()
    assert [request.inputs[0].shape[0] for request in shared[0].requests[before:]] == [8, 8, 4]


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("batched", {"ids": IDS}, {}, r"batched wants more inputs: mask \(FP32 \[-1, 2\]\)"),
    ("batched", {"idz": IDS, "mask": MASK}, {}, "no input 'idz'; did you mean 'ids'"),
    ("batched", {"ids": IDS, "mask": MASK}, {"outputs": ["z"]}, "no output 'z'.*x, y"),
    ("batched", {"ids": IDS, "mask": MASK}, {"outputs": []}, "no output is asked for"),
    ("batched", {"ids": IDS.astype(np.uint64), "mask": MASK}, {}, r"uint64, and INT64 .*astype\('int64'\)"),
    ("batched", {"ids": IDS, "mask": MASK.astype(float)}, {}, "float64, and FP32 is wanted"),
    ("batched", {"ids": IDS[0], "mask": MASK}, {}, r"shape is \[3\], .* takes \[-1, -1\], the first .* 8 at most"),
    ("batched", {"ids": IDS, "mask": MASK[:, :1]}, {}, r"shape is \[2, 1\], and the model takes \[-1, 2\]"),
    ("batched", {"ids": IDS[:1], "mask": MASK}, {}, "the same rows.*ids 1, mask 2"),
    ("batched", {"ids": IDS[:0], "mask": MASK[:0]}, {}, "no rows"),
    ("batched", {"ids": np.zeros((9, 1), int), "mask": np.zeros((9, 2), "f")}, {}, "at most 8 rows .* not 9.*split"),
    ("whole", {"a": [[1], [2]]}, {"split": True}, "does not batch"),
    ("whole", {"a": np.int64([[1], [2]])}, {}, r"int64, and INT32 .*astype\('int32'\)"),
    ("whole", {"a": [[2**31], [2]]}, {}, "2147483648 is not exactly a number of INT32"),
    ("whole", {"a": [[1.5], [2]]}, {}, "1.5 is not exactly"),
    ("whole", {"a": [["1"], [2]]}, {}, "'1' is not exactly"),
    ("whole", {"a": [[None], [2]]}, {}, "None is not exactly"),
    ("whole", {"a": [[1, 2], [2]]}, {}, "rows are of different lengths|it is no array"),
    ("whole", {"a": [[1], [2]], "b": [5]}, {}, "bytes or text, not 5"),
    ("whole", {"a": [[1], [2]], "b": np.uint8([5])}, {}, "bytes or text, not uint8"),
    ("whole", {"a": [[1], [2]], "b": ["\ud800"]}, {}, "half a character"),
    ("whole", {"a": object()}, {}, "is not exactly a number"),
    ("whole", [1], {}, "a mapping from names to arrays"),  # type: ignore[list-item]
]  # fmt: skip


@pytest.mark.parametrize(("model", "inputs", "options", "message"), REFUSED, ids=[row[3][:30] for row in REFUSED])
def test_what_does_not_fit_is_not_sent(
    model: str, inputs: Any, options: dict[str, Any], message: str, shared: tuple[FakeTriton, str]
) -> None:
    before = shared[0].calls
    with Client(shared[1]) as client, pytest.raises(InvalidInput) as caught:
        client.infer(model, inputs, **options)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    assert shared[0].calls == before


def test_a_model_that_was_built_anew_is_held_to_what_it_takes_now(
    connect: Connect, fake: tuple[FakeTriton, str]
) -> None:
    servicer, url = fake
    servicer.named = {"m": WHOLE}
    with connect(url) as client:
        client.infer("m", {"a": [[1], [2]]})
        servicer.named = {"m": BATCHED}
        assert list(client.infer("m", {"ids": IDS, "mask": MASK})) == ["x", "y"]
        with pytest.raises(InvalidInput, match="no input 'a'"):
            client.infer("m", {"a": [[1], [2]]})


def test_parts_that_are_no_rows_of_one_array_are_told(fake: tuple[FakeTriton, str]) -> None:
    def longest(request: Any) -> dict[str, tuple[list[int], bytes]]:
        side = int(np.frombuffer(request.raw_input_contents[0], np.int64).max())
        return {"o": ([request.inputs[0].shape[0], side], bytes(8 * request.inputs[0].shape[0] * side))}

    fake[0].named = {"m": Named({"n": ("INT64", [-1, 1])}, {"o": ("INT64", [-1, -1])}, 2, answer=longest)}
    with Client(fake[1]) as client:
        with pytest.raises(InvalidInput, match=r"no rows of one array.*\[2, 2\], \[1, 3\]"):
            client.infer("m", {"n": [[1], [2], [3]]}, split=True)
        assert client.infer("m", {"n": [[3], [2], [3]]}, split=True)["o"].shape == (3, 3)


def test_an_output_that_does_not_come_is_told_where_it_was_asked_for(fake: tuple[FakeTriton, str]) -> None:
    fake[0].named = {"m": WHOLE}
    with Client(fake[1]) as client:
        assert list(client.infer("m", {"a": [[1], [2]]})) == ["c"]
        with pytest.raises(ServerError, match="did not give d"):
            client.infer("m", {"a": [[1], [2]]}, ["c", "d"])


# --- values ---

INTEGERS = st.integers(-(2**65), 2**65)
NUMBERS = INTEGERS | st.floats() | st.floats(width=16) | st.booleans()


@given(values=st.lists(NUMBERS, max_size=4), datatype=st.sampled_from(sorted(DTYPES)))
def test_lists_are_taken_exactly_or_not_at_all(values: list[Any], datatype: str) -> None:
    dtype = np.dtype(DTYPES[datatype])
    try:
        sent = as_sent(values, datatype, "x")
    except InvalidInput:
        assert any(not is_held(value, dtype) for value in values)
    else:
        assert sent.dtype == dtype
        assert all(a == b or (a != a and b != b) for a, b in zip(sent.tolist(), values, strict=True))


def is_held(value: Any, dtype: np.dtype[Any]) -> bool:
    """By NumPy's own scalars, which raise or change what they do not hold."""
    with np.errstate(all="ignore"), contextlib.suppress(OverflowError, ValueError):
        if dtype.kind in "iu" and not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            return False
        held = dtype.type(int(value) if dtype.kind in "iu" else value).item()
        return bool(held == value or (held != held and value != value))
    return False


ANY_ARRAY = arrays_of.arrays(arrays_of.scalar_dtypes(), arrays_of.array_shapes(max_dims=3, min_side=0, max_side=3))


@given(array=ANY_ARRAY, datatype=st.sampled_from(sorted(DTYPES)))
def test_arrays_keep_every_number_or_are_refused(array: np.ndarray, datatype: str) -> None:
    with contextlib.suppress(InvalidInput):
        sent = as_sent(array, datatype, "x")
        assert sent.dtype.isnative
        assert sent.shape == array.shape
        assert all(
            a == b or (a != a and b != b) for a, b in zip(sent.ravel().tolist(), array.ravel().tolist(), strict=True)
        )


@pytest.mark.parametrize("datatype", sorted(DTYPES))
def test_an_array_of_the_type_itself_is_taken(datatype: str) -> None:
    array = np.asfortranarray(np.ones((2, 3), DTYPES[datatype]).astype(np.dtype(DTYPES[datatype]).newbyteorder(">")))
    assert as_sent(array, datatype, "x").tolist() == array.tolist()
    assert as_sent(np.ones((), DTYPES[datatype]), datatype, "x").shape == ()


@given(values=arrays_of.arrays(np.float32, st.integers(0, 5)))
def test_bf16_is_rounded_on_demand_alone(values: np.ndarray) -> None:
    import ml_dtypes

    rounded = to_bf16(values)
    with np.errstate(all="ignore"):
        nearest = values.astype(ml_dtypes.bfloat16)
    assert np.array_equal(rounded, nearest.astype(np.float32), equal_nan=True)
    assert as_sent(nearest, "BF16", "x").tolist() == nearest.view(np.uint16).tolist()
    finite = rounded[np.isfinite(rounded)]
    assert np.array_equal(as_sent(finite, "BF16", "x").view(ml_dtypes.bfloat16).astype(np.float32), finite)
    with contextlib.suppress(InvalidInput):
        as_sent(values[np.isfinite(values)], "BF16", "x")
        assert np.array_equal(rounded[np.isfinite(values)], values[np.isfinite(values)])


def test_bf16_that_would_be_rounded_is_refused() -> None:
    with pytest.raises(InvalidInput, match="to_bf16"):
        as_sent(np.float32([0.1]), "BF16", "x")
    with pytest.raises(InvalidInput, match="no type that this client can send"):
        as_sent([1], "INT4", "x")


TEXTS = st.binary(max_size=5) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@given(values=st.lists(TEXTS, max_size=5))
def test_bytes_and_text_are_sent_as_they_are(values: list[Any]) -> None:
    wanted = [value.encode() if isinstance(value, str) else value for value in values]
    info = ModelInfo("m", ("1",), "", 0, (TensorInfo("b", "BYTES", (-1,)),), (TensorInfo("d", "BYTES", (-1,)),))
    (inference,) = tensors.encode(info, tensors.Request({"b": values}), ())
    assert inference.tensors[0].data.tolist() == wanted
    answer = tensors.decode(info, tensors.Request({}), [Exchange(inference, {"d": inference.tensors[0].data})])
    assert answer["d"].tolist() == wanted


# --- the room ---


def test_requests_name_their_task() -> None:
    assert {named(task.Request({})) for task in TASKS.values()} == set(TASKS)  # type: ignore[attr-defined]
    with pytest.raises(InvalidInput, match="a dict is no request of a task"):
        named({})


@pytest.mark.parametrize(
    ("platform", "inputs", "outputs", "task"),
    [
        ("ensemble", [("BYTES", (-1, 1))], [("FP32", (-1, 9))], "classification"),
        ("ensemble", [("BYTES", (-1, 1))], [("FP32", (-1, 1))], "classification"),
        ("ensemble", [("BYTES", (-1, 1))], [("FP32", (-1, 3, 9, 9))], None),
        ("ensemble", [("BYTES", (-1, 1))], [("FP16", (-1, 9))], None),
        ("ensemble", [("FP32", (-1, 1))], [("FP32", (-1, 9))], None),
        ("python", [("BYTES", (-1, 1))], [("FP32", (-1, 9))], None),
    ],
)
def test_models_from_before_are_known_by_their_form(platform: str, inputs: Any, outputs: Any, task: str | None) -> None:
    one, other = ([TensorInfo("x", *tensor) for tensor in side] for side in (inputs, outputs))
    assert recognised(ModelInfo("m", ("1",), platform, 8, tuple(one), tuple(other))) == task


def test_a_task_is_one_module_and_one_line(
    fake: tuple[FakeTriton, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its models are known, its requests asked for, alone and by the thousand, and its tables written."""
    monkeypatch.setitem(TASKS, "lengths", lengths)
    bytes_of = ("BYTES", [-1])
    fake[0].named = {"echo": Named({"b": bytes_of}, {"d": bytes_of}, 4, task=""), "other": WHOLE}
    (tmp_path / "long").write_bytes(b"12345")
    (tmp_path / "short").write_bytes(b"1")
    paths = [str(tmp_path / name) for name in ("long", "none", "short")]
    with Client(fake[1]) as client:
        assert client.model("echo").task == "lengths"
        assert client.ask(lengths.Request([b"123", paths[0]])) == [3, 5]
        with pytest.raises(ModelNotFound, match="other does not echo"):
            client.ask(lengths.Request([b"123"]), "other")
        assert [outcome.answer for outcome in client.ask_each(paths, lengths.Request)] == [5, None, 1]
        for form in WRITERS:
            ask_into(Table(tmp_path / form, form), client, Question(Images(paths), None, lengths.Request, 2, 2))
    missing = f"{paths[1]},No such file or directory,"
    assert (tmp_path / "csv").read_text().splitlines() == [
        "path,error,length", f"{paths[0]},,5", missing, f"{paths[2]},,1",
    ]  # fmt: skip
    assert pyarrow.parquet.read_table(tmp_path / "parquet")["length"].to_pylist() == [5, None, 1]
    assert '"length": 5}' in (tmp_path / "jsonl").read_text()
