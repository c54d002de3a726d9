"""repo-client infer: arrays from files, and into files that are complete when they appear."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_triton import FakeTriton, Named
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from client.cli import app
from client.errors import ClientError, InvalidInput, UnreadableFile, UnwritableFile
from client.tasks import values
from client.tensor_files import reading, writing

ROWS, TEXTS = ("INT64", [-1, 3]), ("BYTES", [-1, 1])
ECHO = Named({"a": ROWS, "t": TEXTS}, {"x": ROWS, "y": TEXTS}, 8, optional=("a", "t"))
NUMBERS = np.arange(6).reshape(2, 3)
Run = Callable[..., str]


@pytest.fixture
def run(fake: tuple[FakeTriton, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Run:
    """`infer echo` in a folder with some files; its output."""
    fake[0].named = {"echo": ECHO}
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", NUMBERS)
    np.savez("all.npz", a=NUMBERS, t=np.array([["one"], ["two"]]))
    Path("t.txt").write_text("one\r\ntwo é\n", encoding="utf-8-sig")
    Path("image").write_bytes(b"\xff\0\n")

    def infer(*words: str) -> str:
        capsys.readouterr()
        app(["infer", "echo", "--url", fake[1], *words], standalone_mode=False)
        text: str = capsys.readouterr().out
        return text

    return infer


def told(text: str) -> dict[str, Any]:
    return {output["name"]: output["data"] for output in json.loads(text)["outputs"]}


def test_outputs_are_shown(run: Run) -> None:
    assert [line.split() for line in run("-i", "a=a.npy", "-i", "t=t.txt").splitlines()] == [
        ["OUTPUT", "TYPE", "SHAPE", "VALUES"],
        ["x", "INT64", "[2,", "3]", "0", "1", "2", "3", "4", "5"],
        ["y", "BYTES", "[2,", "1]", "'one'", "'two", "é'"],
    ]


def test_json_has_what_is_small(run: Run) -> None:
    assert told(run("-i", "all.npz", "--json")) == {"x": NUMBERS.tolist(), "y": [["one"], ["two"]]}
    assert told(run("-i", "t=@image", "--only", "y", "--json")) == {"y": [[{"base64": "/wAK"}]]}
    assert told(run("-i", "t=t.txt", "--only", "y", "--json")) == {"y": [["one"], ["two é"]]}
    np.save("large.npy", np.zeros((8, 3), int).repeat(50, 0))
    assert "data" not in json.loads(run("-i", "a=large.npy", "--only", "x", "--split", "--json"))["outputs"][0]


def test_files_are_written_all_or_none(run: Run) -> None:
    assert run("-i", "all.npz", "-o", "out") == ""
    assert {path.name for path in Path("out").iterdir()} == {"x.npy", "y.npy"}
    assert np.load("out/x.npy").tolist() == NUMBERS.tolist()
    assert np.load("out/y.npy").tolist() == [[b"one"], [b"two"]]
    Path("out/x.npy").unlink()
    with pytest.raises(UnwritableFile, match=r"out/y\.npy exists already.*--force"):
        run("-i", "all.npz", "-o", "out")
    assert {path.name for path in Path("out").iterdir()} == {"y.npy"}
    run("-i", "all.npz", "-o", "out", "--force")
    assert {path.name for path in Path("out").iterdir()} == {"x.npy", "y.npy"}
    run("-i", "all.npz", "--npz", "one.npz")
    assert np.load("one.npz")["y"].tolist() == [[b"one"], [b"two"]]
    with pytest.raises(UnwritableFile, match=r"one\.npz exists already"):
        run("-i", "all.npz", "--npz", "one.npz")
    assert not list(Path().glob(".repo-client-*"))


def test_what_cannot_be_placed_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "y.npy").mkdir(parents=True)
    (folder / "x.npy").write_text("before")
    with pytest.raises(UnwritableFile, match="is a folder"):
        writing.write_folder(folder, {"w": NUMBERS, "x": NUMBERS, "y": NUMBERS}, force=True)
    assert sorted(path.name for path in folder.iterdir()) == ["x.npy", "y.npy"]
    assert (folder / "x.npy").read_text() == "before"
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("where", ["none/out", "file", "file/out"])
def test_places_that_cannot_be_written(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")
    with pytest.raises(UnwritableFile):
        writing.write_folder(tmp_path / where, {"x": NUMBERS}, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def foreign_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme", "no array")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words", "kind", "message"),
    [
        (None, "-i a=f.npy", UnreadableFile, "No such file"),
        (b"", "-i a=f.npy", UnreadableFile, "damaged"),
        (b"hello", "-i a=f.npy", UnreadableFile, "no .npy or .npz"),
        (npy(np.array([{}], object)), "-i a=f.npy", UnreadableFile, "Python objects, which are not loaded"),
        (npy(np.arange(2))[:-3], "-i a=f.npy", UnreadableFile, "damaged"),
        (b"PK\x03\x04 cut off", "-i f.npz", UnreadableFile, "damaged"),
        (foreign_zip(), "-i f.npz", UnreadableFile, "readme in it is no array"),
        (b"\xff", "-i t=f.txt", UnreadableFile, "no UTF-8"),
        (b"a\n", "-i a=f.txt", InvalidInput, "input a is INT64; give an .npy file"),
        (b"a\n", "-i z=f.txt", InvalidInput, "no input 'z'"),
        (None, "-i a=all.npz", InvalidInput, "without NAME="),
        (None, "-i a.npy", InvalidInput, "NAME=a.npy"),
        (None, "-i nonsense", InvalidInput, "write NAME=FILE.npy"),
        (None, "-i =a.npy", InvalidInput, "write NAME=FILE.npy"),
        (None, "-i a=a.npy -i all.npz", InvalidInput, "a is given twice"),
        (None, "-i a=- -i -", InvalidInput, "the standard input can be read once"),
        (None, "-i a=.", UnreadableFile, "a folder"),
        (None, "-i a=a.npy --only q", InvalidInput, "no output 'q'"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(
    content: bytes | None, words: str, kind: type[ClientError], message: str, run: Run, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / words.replace("=", " ").split()[-1]).write_bytes(content)
    with pytest.raises(kind) as caught:
        run(*words.split())
    assert message in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_standard_input_is_an_array_or_all(fake: tuple[FakeTriton, str], tmp_path: Path) -> None:
    fake[0].named = {"echo": ECHO}
    np.save(tmp_path / "a.npy", NUMBERS)
    np.savez(tmp_path / "all.npz", a=NUMBERS)
    command = [sys.executable, "-m", "client.cli", "infer", "echo", "--url", fake[1], "--only", "x", "--json", "-i"]
    for word, name in (("a=-", "a.npy"), ("-", "all.npz"), ("-", "a.npy")):
        given = (tmp_path / name).read_bytes()
        done = subprocess.run([*command, word], input=given, capture_output=True, timeout=120)
        assert b"Traceback" not in done.stderr
        assert (done.returncode, done.stdout != b"") == ((6, False) if (word, name) == ("-", "a.npy") else (0, True))


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
KINDS = st.sampled_from(["int8", "uint64", "float16", "float32", "bool"])
SIDES = arrays_of.array_shapes(max_side=3)
ARRAYS = st.dictionaries(NAMES, KINDS.flatmap(lambda kind: arrays_of.arrays(kind, SIDES)), max_size=3)


@given(arrays=ARRAYS)
def test_what_is_written_is_read(arrays: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("arrays")
    paths = writing.write_folder(folder / "out", arrays, force=False)
    assert {path.parent for path in paths} <= {folder / "out"}
    assert len(set(paths)) == len(arrays)
    read = reading.read([f"{number}={path}" for number, path in enumerate(paths)])
    assert [npy(array) for array in read.values()] == [npy(array) for array in arrays.values()]
    writing.write_npz(folder / "out.npz", arrays, force=False)
    assert list(reading.read([f"{folder}/out.npz"])) == list(arrays)


@given(elements=st.lists(st.binary(max_size=4), max_size=4))
def test_bytes_are_written_exactly_or_not_at_all(elements: list[bytes], tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("arrays") / "out"
    array = np.array([*elements, None], object)[:-1]
    if any(element.endswith(b"\0") for element in elements):
        with pytest.raises(UnwritableFile, match="end in NUL"):
            writing.write_folder(folder, {"x": array}, force=False)
        assert not folder.exists()
    else:
        writing.write_folder(folder, {"x": array}, force=False)
        assert np.load(folder / "x.npy").tolist() == elements


@pytest.mark.parametrize("output", ["../x", "a/b", ".hidden", "..", "logits:0", "%2F", "x\ny"])
def test_names_of_outputs_lead_nowhere_else(output: str, tmp_path: Path) -> None:
    (path,) = writing.write_folder(tmp_path / "out", {output: NUMBERS}, force=False)
    assert list((tmp_path / "out").iterdir()) == [path]
    assert not path.name.startswith(".")
    assert path.name.isprintable()


def test_json_has_no_numbers_that_json_has_not() -> None:
    record = values.record("x", "FP32", np.float32([np.nan, np.inf, -np.inf, 0.5]))
    assert json.loads(json.dumps(record, allow_nan=False))["data"] == ["NaN", "Infinity", "-Infinity", 0.5]
    assert values.excerpt(np.array([b"x" * 100, b"\xff"], object)).endswith("(100 bytes) b'\\xff'")
    assert values.excerpt(np.arange(9)) == "0 1 2 3 4 5 ..."
