"""Texts of files, line by line: which there are, and what is held of them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client import Client, UnreadableFile
from client.batch.lines import HELD, Lines, split
from client.batch.run import Question, Table, ask_into
from client.tasks.text import vectors
from client.types import ModelInfo, Outcome, TensorInfo, Text

MIB = 1024 * 1024
INPUT = (TensorInfo("TEXT", "BYTES", (-1, 1)),)
INFO = ModelInfo("sentences", ("1",), "ensemble", 8, INPUT, (TensorInfo("EMBEDDING", "FP32", (-1, 2)),))
LIMITED = ModelInfo(
    "sentences", ("1",), "ensemble", 8, INPUT, (TensorInfo("EMBEDDING", "FP32", (-1, 2)),), max_text_bytes=1000
)


@settings(deadline=None)
@given(
    content=st.lists(st.sampled_from([b"a", b"bc", b"\r", b"\n", b"\r\n", b"\0", b"\xff", b"long text"])).map(b"".join),
    sizes=st.lists(st.integers(1, 5), min_size=1),
    null=st.booleans(),
    most=st.integers(0, 12),
)
def test_texts_are_what_is_between_their_ends(content: bytes, sizes: list[int], null: bool, most: int) -> None:
    """However the file comes in parts; of one that is too long, the beginning and the number of bytes are known."""
    parts, start = [], 0
    while start < len(content):
        size = sizes[len(parts) % len(sizes)]
        parts.append(content[start : start + size])
        start += size
    end = b"\0" if null else b"\n"
    *ended, last = content.split(end)
    expected = [text if null else text.removesuffix(b"\r") for text in ended] + ([last] if last else [])
    found = list(split(iter(parts), null, most))
    assert [len(kept) + left_out for kept, left_out in found] == list(map(len, expected))
    assert all(text.startswith(kept) for (kept, _), text in zip(found, expected, strict=True))
    assert all(not left_out or len(kept) > most for kept, left_out in found)
    assert all(len(kept) <= most + 1 for kept, _ in found)


def test_a_text_that_is_too_long_is_not_held(tmp_path: Path) -> None:
    """Nor are the lines that were given before it."""
    path = tmp_path / "t.txt"
    with path.open("wb") as file:
        for _ in range(20_000):
            file.write(b"x" * 99 + b"\n")
        for _ in range(32):
            file.write(b"y" * MIB)
        file.write(b"\nlast")
    tracemalloc.start()
    try:
        sizes = {item.where: len(item.content) + item.left_out for item in Lines([str(path)]).items(LIMITED)}
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(sizes) == 20_002
    assert sizes[f"{path}:20001"] == 32 * MIB
    assert peak < 8 * MIB  # the names themselves
    assert Lines([str(path)]).count() == 20_002


class Answering:
    """In place of a client: every text is answered at once."""

    def chosen(self, task: str, _: str | None) -> ModelInfo:
        assert task == "text-vectors"
        return INFO

    def ask_each(self, items: Iterable[Text], *_: Any) -> Generator[Outcome[Text], None, None]:
        import numpy as np

        for item in items:
            yield Outcome(item, np.float32([len(item.content), 1]))


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_memory_does_not_grow_with_the_file(form: str, tmp_path: Path) -> None:
    """Of 24 MB of texts, a few are held at a time, in the journal and in the table, and by a run that goes on."""
    path, table = tmp_path / "t.txt", Table(tmp_path / f"out.{form}", form)
    with path.open("w") as file:
        for number in range(1500):
            file.write(f"{number} {'x' * 16_000}\n")
    (tmp_path / f"out.{form}.staged").mkdir()  # so that the first run cannot end
    question = Question(Lines([str(path)]), None, vectors.Request, 2, 8)
    import pyarrow.parquet  # noqa: F401  # not to be counted

    tracemalloc.start()
    try:
        with pytest.raises(Exception, match="run again"):
            ask_into(table, cast("Client", Answering()), question)
        (tmp_path / f"out.{form}.staged").rmdir()
        assert ask_into(table, cast("Client", Answering()), question).done == 1500
        assert tracemalloc.get_traced_memory()[1] < 12 * MIB
    finally:
        tracemalloc.stop()


def test_where_the_model_does_not_tell_a_mebibyte_is_held(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"x" * (HELD + 5))
    (item,) = Lines([str(tmp_path / "t.txt")]).items(INFO)
    assert (len(item.content), item.left_out) == (HELD + 1, 4)


def test_what_is_no_file_is_told_before_the_first_text(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a\n")
    for name in ("gone.txt", "."):
        with pytest.raises(UnreadableFile):
            next(Lines([str(tmp_path / "t.txt"), str(tmp_path / name)]).items(INFO))
