"""Samples from .npz files and functions: the convention, and files that are not what they say."""

from __future__ import annotations

import io
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.data import arrays
from builder.data.arrays import ArraySet, read, spread
from builder.errors import ManifestError

X = np.arange(12, dtype="float32").reshape(4, 3)


def samples(folder: Path, *sources: str, most: int = 256, is_batched: bool = True) -> list[arrays.Sample]:
    return read(ArraySet(data=sources, samples=most), folder, is_batched)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), min_size=1, max_size=4), st.integers(1, 9))
def test_rows_are_samples_over_all_files(tmp_path_factory: pytest.TempPathFactory, files: Any, most: int) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows = []
    for number, (count, size) in enumerate(files):
        x = np.random.default_rng(number).integers(0, 9, (count, size))
        np.savez(folder / f"{number}.npz", x=x, y=-x.astype("float32"))
        rows += list(x)
    names = [f"{number}.npz" for number in range(len(files))]
    every = samples(folder, *names)
    assert [sample.tensors["x"].tolist() for sample in every] == [row.tolist() for row in rows]
    assert all(torch.equal(sample.tensors["y"], -sample.tensors["x"].float()) for sample in every)
    assert len(samples(folder, *names, most=most)) == min(most, len(rows))
    whole = samples(folder, *names, is_batched=False)
    assert [tuple(sample.tensors["x"].shape) for sample in whole] == [tuple(shape) for shape in files]


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_spread(total: int, wanted: int) -> None:
    found = spread(total, wanted)
    assert len(found) == min(total, wanted)
    assert found == sorted(set(found))
    assert found[0] == 0
    assert found[-1] < total


@pytest.mark.parametrize("order", [">", "<"])
def test_other_orders_and_layouts_hold_the_same_numbers(order: str, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.asfortranarray(X).astype(f"{order}f8"), y=X[::-1])
    first = samples(tmp_path, "x.npz")[0].tensors
    assert first["x"].dtype == torch.float64
    assert first["x"].tolist() == X[0].tolist()
    assert first["y"].tolist() == X[-1].tolist()


def _bytes(**content: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **content)
    return buffer.getvalue()


def _archive(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def _header(shape: str, content: bytes = b"") -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


OBJECTS = np.array([[1], [1, 2]], dtype=object)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_bytes(x=OBJECTS), "'x' of .* holds Python objects, which only unpickling could read"),
        (_bytes(x=np.array(["a"])), "'x' of .* holds text"),
        (_bytes(x=np.array(["2020-01-01"], "M8[D]")), "holds dates"),
        (_bytes(x=np.zeros(2, [("a", "f4")])), "holds records"),
        (_bytes(x=X, y=X[:2]), "arrays of different lengths \\('x' 4, 'y' 2\\)"),
        (_bytes(x=X[:0]), "holds no samples"),
        (_bytes(x=np.float32(1)), "'x' of .* is one number"),
        (_bytes(), "holds no arrays"),
        (b"", "is no .npz file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is no .npz file"),
        (_header("(2,)", b"12345678"), "one array without a name; save np.savez"),
        (_archive(("x.npy", _header("(2,)"))), "'x' of .* is not as long as it says"),
        (_archive(("x.npy", _header("(9999999999, 9999999999)"))), "is not as long as it says"),
        (_archive(("x.npy", b"nonsense")), "cannot be read"),
        (_archive(("x.txt", b"text")), "'x.txt', which is no array"),
    ],
)
def test_files_that_hold_no_samples(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ManifestError, match=message):
        samples(tmp_path, "x.npz")


@settings(max_examples=60)
@given(st.data())
def test_damaged_files_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    content = bytearray(_bytes(x=X, y=X.astype("int64")))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "x.npz"
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]) if data.draw(st.booleans()) else content)
    with suppress(ManifestError):
        assert samples(path.parent, path.name)


def test_what_is_compressed_small_may_be_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "LARGEST", 10_000)
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((10, 1000), "float32"))
    with pytest.raises(ManifestError, match="GiB are the most"):
        samples(tmp_path, "x.npz")


@pytest.mark.parametrize(
    ("source", "message"),
    [("none.npz", "does not exist"), (".", "is a folder; name its .npz files"), ("none.py:f", "does not exist")],
)
def test_sources_that_are_none(source: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=message):
        samples(tmp_path, source)


FUNCTIONS = """
import numpy as np, torch

def generator():
    buffer = np.zeros(3, 'float32')
    for number in range(10**9):
        buffer[:] = number
        yield {'x': buffer, 'n': np.int64(number)}

class Dataset:
    def __len__(self): return 100
    def __getitem__(self, i): return {'x': torch.full((2,), float(i)).bfloat16().requires_grad_()}

def one(): return {'x': np.zeros((4, 3))}
def lists(): return [{'x': [1, 2]}]
def pairs(): return [(np.zeros(3), 1)]
def nothing(): return []
def none(): return None
def other_names(): return [{'x': np.zeros(3)}, {'y': np.zeros(3)}]
def fails(): raise RuntimeError('no data today')
def sparse(): return [{'x': torch.zeros(3).to_sparse()}]
"""


def test_functions_give_samples_without_a_batch_axis(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(FUNCTIONS)
    for is_batched in (True, False):
        found = samples(tmp_path, "own.py:generator", most=5, is_batched=is_batched)
        assert [(sample.name, sample.tensors["x"].tolist()) for sample in found] == [
            (f"own.py:generator[{number}]", [number] * 3) for number in range(5)
        ]
        assert found[0].tensors["n"].shape == ()
    taken = samples(tmp_path, "own.py:Dataset", most=4)
    assert [sample.tensors["x"][0].item() for sample in taken] == [0, 25, 50, 75]
    assert taken[0].tensors["x"].dtype == torch.bfloat16
    assert not taken[0].tensors["x"].requires_grad


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("one", "gave one mapping; give several mappings"),
        ("lists", "'x' of own.py:lists\\[0\\] is a list, whose data type nothing tells"),
        ("pairs", "own.py:pairs\\[0\\] is a tuple; give mappings"),
        ("nothing", "gave no samples"),
        ("none", "gave a NoneType"),
        ("other_names", "own.py:other_names\\[0\\] has 'x', and own.py:other_names\\[1\\] has not"),
        ("fails", "no data today"),
        ("sparse", "sparse"),
        ("missing", "has no callable 'missing'"),
    ],
)
def test_functions_that_give_no_samples(function: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(FUNCTIONS)
    with pytest.raises(ManifestError, match=message):
        samples(tmp_path, f"own.py:{function}")
