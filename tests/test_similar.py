"""Search among vectors: held to a naive reference, in its memory, and by the commands on tables and folders."""

import asyncio
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pytest
import warm
from fake_tasks import embedder
from fake_triton import FakeTriton, Named, refuse
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from client import AsyncClient, Client, InvalidInput, ServerError, ServerUnavailable
from client.similar import search, vectors
from client.similar.search import duplicates, nearest
from client.similar.vectors import Vectors, gathered

Fake = tuple[FakeTriton, str]
MIB = 1024 * 1024
SLACK = 1e-5
"""Of cosines in float32."""
WIDE = st.integers(1, 5).flatmap(
    lambda width: st.lists(
        st.lists(st.integers(-3, 3), min_size=width, max_size=width).map(tuple), min_size=1, max_size=25
    )
)


def of(rows: Sequence[Sequence[float]]) -> Vectors:
    return gathered((str(number), np.float32(row)) for number, row in enumerate(rows))


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Naively, in float64; 0 where one has no length."""
    first, second = np.float64(one), np.float64(other)
    length = np.sqrt(first @ first) * np.sqrt(second @ second)
    return float(first @ second / length) if length else 0.0


@settings(deadline=None)
@given(rows=WIDE, top=st.integers(1, 30))
def test_the_nearest_are_those_of_a_naive_search(rows: list[tuple[int, ...]], top: int) -> None:
    to = next((row for row in rows if any(row)), None)
    if to is None:
        with pytest.raises(InvalidInput, match="all zeros"):
            nearest(of(rows), np.float32(rows[0]), top)
        return
    found = nearest(of(rows), np.float32(to), top)
    cosines = [cosine(to, row) for row in rows]
    assert len({one.name for one in found}) == len(found) == min(top, len(rows))
    assert [one.cosine for one in found] == pytest.approx(sorted(cosines, reverse=True)[:top], abs=SLACK)
    assert [one.cosine for one in found] == pytest.approx([cosines[int(one.name)] for one in found], abs=SLACK)


@settings(deadline=None)
@given(
    rows=WIDE,
    least=st.sampled_from([-1.0, -0.31, 0.17, 0.64, 0.93, 1.0]),
    block=st.integers(1, 6),
    held=st.integers(0, 9),
)
def test_pairs_are_those_of_a_naive_search(rows: list[tuple[int, ...]], least: float, block: int, held: int) -> None:
    """However small the blocks are, and the number of pairs that is held at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "BLOCK", block)
        patch.setattr(search, "HELD", held)
        found = list(duplicates(of(rows), least))
    cosines = {(str(a), str(b)): cosine(rows[a], rows[b]) for a, b in combinations(range(len(rows)), 2)}
    told = {(pair.first, pair.second): pair.cosine for pair in found}
    assert len(told) == len(found)
    assert {pair for pair, value in cosines.items() if value >= least} <= told.keys()
    assert told.keys() <= {pair for pair, value in cosines.items() if value >= least - SLACK}
    assert told == pytest.approx({pair: cosines[pair] for pair in told}, abs=SLACK)
    assert [(int(pair.first), int(pair.second)) for pair in found] == sorted((int(a), int(b)) for a, b in told)


def test_the_same_vector_is_a_duplicate_at_a_cosine_of_one() -> None:
    """Though rounding may give 0.9999999; no cosine is above 1."""
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(200, 1280)).astype(np.float32)
    pairs = list(duplicates(of([*rows, *rows * 3]), 1.0))
    assert [(pair.first, pair.second) for pair in pairs] == [(str(n), str(n + 200)) for n in range(200)]
    assert max(pair.cosine for pair in pairs) <= 1


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_lengths_of_vectors_do_not_matter(scale: float) -> None:
    """Squares of these are beyond float32, which their directions are not."""
    found = nearest(of([[scale, 0], [scale, scale], [0, scale]]), np.float32([scale, 0]), 2)
    assert [(one.name, one.cosine) for one in found] == [("0", 1.0), ("1", pytest.approx(0.5**0.5, abs=SLACK))]


def test_vectors_of_several_lengths_are_not_gathered() -> None:
    with pytest.raises(InvalidInput, match="several lengths"):
        of([[1, 2], [1, 2, 3]])
    with pytest.raises(InvalidInput, match="there are no vectors"):
        of([])
    with pytest.raises(InvalidInput, match="have 2 numbers, and the model gives 3"):
        nearest(of([[1, 2]]), np.ones(3, np.float32), 1)


def table(path: Path, names: Sequence[str], rows: Any, **columns: Any) -> Path:
    parquet.write_table(pa.table({"path": list(names), "vector": rows, **columns}), path)
    return path


def lists(array: np.ndarray) -> Any:
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1]).cast(
        pa.list_(pa.float32(), array.shape[1])
    )


MANY, WIDTH = 100_000, 64


def test_memory_is_that_of_the_vectors_and_little_more(tmp_path: Path) -> None:
    """What is taken beside 4 bytes a number, the names, and the cosines does not grow with the table: so a million
    vectors of 64 take 256 MB, and 12 bytes each while they are asked.
    """
    draw = np.random.default_rng(0)
    array = draw.normal(size=(MANY, WIDTH)).astype(np.float32)
    path = table(tmp_path / "t.parquet", [str(n) for n in range(MANY)], lists(array))
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        read = vectors.read(str(path))
        own, peak = (
            read.units.nbytes + sum(map(sys.getsizeof, read.names)) + 8 * MANY,
            tracemalloc.get_traced_memory()[1],
        )
        assert own <= peak < own + 8 * 4 * WIDTH * vectors.ROWS
        tracemalloc.reset_peak()
        held = tracemalloc.get_traced_memory()[0]
        assert nearest(read, array[7], 3)[0].name == "7"
        assert tracemalloc.get_traced_memory()[1] - held < 32 * MANY + MIB
    finally:
        tracemalloc.stop()
    assert pa.total_allocated_bytes() - before < MIB


def test_many_duplicates_are_held_in_parts() -> None:
    """Of 6000 equal vectors there are 18 million pairs, told by and by."""
    same = Vectors([str(n) for n in range(6000)], np.full((6000, 4), 0.5, np.float32))
    tracemalloc.start()
    try:
        pairs = duplicates(same, 0.9)
        for _ in range(100_000):
            next(pairs)
        assert tracemalloc.get_traced_memory()[1] < 400 * MIB
    finally:
        tracemalloc.stop()


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return warm.run("client.cli", *arguments)


def test_pairs_of_a_table_ask_no_server(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", ["a", "b", "c"], [[1.0, 0.0], [0.0, 1.0], [2.0, 0.01]])
    told = run("similar", path, "--duplicates", "--url", "localhost:1")
    assert (told.returncode, told.stdout) == (0, " 1.0000  a  c\n")
    as_json = run("similar", path, "--duplicates", "--threshold", "-1", "--json", "--url", "localhost:1")
    pairs = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert [(pair["first"], pair["second"]) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]


def test_rows_without_a_vector_are_left_out_and_paths_are_exact(tmp_path: Path) -> None:
    rows = pa.array([[1.0, 0.0], None, [1.0, 0.0]], pa.list_(pa.float32()))
    raw = pa.array([None, None, b"c\xff"], pa.binary())
    read = vectors.read(str(table(tmp_path / "t.parquet", ["a", "b", "c\ufffd"], rows, path_bytes=raw)))
    assert read.names == ["a", "c\udcff"]
    assert read.units.tolist() == [[1, 0], [1, 0]]


NULL = pa.array([[1.0, None]], pa.list_(pa.float32()))
BAD_TABLES: dict[str, tuple[Any, str]] = {
    "numbers": ([1.0], "is of double, not of lists of numbers"),
    "texts": ([["x"]], "not of lists of numbers"),
    "several lengths": ([[1.0, 2.0], [1.0], [1.0, 2.0, 3.0], [1.0, 2.0]], "several lengths"),
    "nothing in them": ([[], []], "has no vectors|without numbers|not of lists"),
    "none": (pa.array([None], pa.list_(pa.float32())), "has no vectors"),
    "NaN": ([[1.0, float("nan")]], "not finite"),
    "infinity": ([[1.0, float("inf")]], "not finite"),
    "null": (NULL, "not finite"),
}


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_tables_of_other_things_are_refused(kind: str, tmp_path: Path) -> None:
    rows, message = BAD_TABLES[kind]
    path = table(tmp_path / "t.parquet", ["x"] * len(rows), rows)
    with pytest.raises(InvalidInput, match=message):
        vectors.read(str(path))


def test_commands_refuse_what_they_cannot_do(tmp_path: Path) -> None:
    good = table(tmp_path / "good.parquet", ["a"], [[1.0, 0.0]])
    (tmp_path / "none.parquet").write_bytes(b"no table")
    parquet.write_table(pa.table({"path": ["a"], "label": ["cat"]}), tmp_path / "classes.parquet")
    url = ("--url", "localhost:1")
    (tmp_path / "v.csv").write_text("path,v0\na,1\n")
    for code, message, arguments in (
        (InvalidInput.exit_code, "vectors are read from Parquet", (tmp_path / "v.csv", "--duplicates")),
        (2, "--top", (good, "--to", good, "--top", "0")),
        (2, "--threshold", (good, "--duplicates", "--threshold", "1.5")),
        (2, "one of --to IMAGE, --text TEXT and", (good,)),
        (2, "one of --to IMAGE, --text TEXT and", (good, "--duplicates", "--to", good)),
        (2, "one table, or images", (good, good, "--duplicates")),
        (InvalidInput.exit_code, "pairs want two", (good, "--duplicates")),
        (InvalidInput.exit_code, "no columns path and vector", (tmp_path / "classes.parquet", "--duplicates")),
    ):
        told = run("similar", *arguments, *url)
        assert (told.returncode, told.stdout) == (code, ""), told
        assert message in " ".join(told.stderr.replace("│", " ").split())
    broken = run("similar", tmp_path / "none.parquet", "--duplicates", *url)
    assert broken.returncode not in (0, 1)
    assert "none.parquet" in broken.stderr
    assert "Traceback" not in broken.stderr


def by_first_byte() -> Named:
    """A model whose vector of a picture points where its first byte says; `N` is NaN, `S` answers too little."""

    def answer(request: Any) -> dict[str, tuple[list[int], bytes]]:
        raw, rows = request.raw_input_contents[0], []
        while raw:
            size = int.from_bytes(raw[:4], "little")
            first = raw[4]
            rows.append([np.nan, 0] if first == ord("N") else [np.cos(first / 100), np.sin(first / 100)])
            short = first == ord("S")
            raw = raw[4 + size :]
        array = np.float32(rows)[: 0 if short else None]
        return {"EMBEDDING": (list(array.shape), array.tobytes())}

    model = embedder([0, 0])
    model.answer = answer
    return model


@pytest.fixture
def pictures(fake: Fake, tmp_path: Path) -> tuple[str, Path]:
    fake[0].named = {"vectors": by_first_byte()}
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in "abcN":
        (folder / f"{name}.jpg").write_bytes(name.encode())
    return fake[1], folder


def test_a_vector_that_is_none_spoils_no_others(pictures: tuple[str, Path]) -> None:
    with Client(pictures[0]) as client:
        outcomes = list(client.embed_many([b"a", b"N", b"b"], batch_size=3))
        assert [type(outcome.error) for outcome in outcomes] == [type(None), ServerError, type(None)]
        assert outcomes[2].answer.tolist() == pytest.approx([np.cos(0.98), np.sin(0.98)])
        with pytest.raises(ServerError, match="not finite"):
            client.embed_batch([b"a", b"N"])
        with pytest.raises(ServerError, match=r"\[0, 2\] for 1 images"):
            client.embed(b"S")


def test_event_loops_are_given_the_same(pictures: tuple[str, Path]) -> None:
    async def ask() -> list[Any]:
        async with AsyncClient(pictures[0]) as client:
            many = [outcome.answer.tolist() async for outcome in client.embed_many([b"a", b"b"])]
            return [
                (await client.embed(b"a")).tolist(),
                [row.tolist() for row in await client.embed_batch([b"a", b"b"])],
                many,
            ]

    with Client(pictures[0]) as client:
        rows = [client.embed(one).tolist() for one in (b"a", b"b")]
    assert asyncio.run(ask()) == [rows[0], rows, rows]


@pytest.mark.parametrize("source", ["folder", "table"])
def test_what_is_like_a_picture(pictures: tuple[str, Path], source: str, tmp_path: Path) -> None:
    url, folder = pictures
    among = folder
    if source == "table":
        among = tmp_path / "t.parquet"
        assert run("embed", folder, "--parquet", among, "--url", url).returncode == InvalidInput.exit_code  # for N.jpg
    told = run("similar", among, "--to", folder / "b.jpg", "--top", "2", "--json", "--url", url)
    found = [json.loads(line) for line in told.stdout.splitlines()]
    assert told.returncode == (ServerError.exit_code if source == "folder" else 0), told.stderr  # for N.jpg
    assert found[0] == {"image": str(folder / "b.jpg"), "cosine": pytest.approx(1, abs=SLACK)}
    assert found[1]["cosine"] == pytest.approx(np.cos(0.01), abs=SLACK)
    assert ("N.jpg: left out" in told.stderr) is (source == "folder")
    lost = run("similar", among, "--to", folder / "lost.jpg", "--url", url)
    assert lost.returncode not in (0, 1)
    assert "lost.jpg" in lost.stderr


def test_tables_hold_path_and_vector(pictures: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = pictures
    run("embed", folder, "--parquet", tmp_path / "t.parquet", "--url", url)
    rows = {Path(row["path"]).name: row for row in parquet.read_table(tmp_path / "t.parquet").to_pylist()}
    assert rows["a.jpg"]["vector"] == pytest.approx([np.cos(0.97), np.sin(0.97)])
    assert rows["N.jpg"]["vector"] is None
    assert "not finite" in rows["N.jpg"]["error"]
    run("embed", folder, "--csv", tmp_path / "t.csv", "--url", url)
    assert (tmp_path / "t.csv").read_text().splitlines()[0] == "path,error,v1,v2"


def test_a_run_that_was_cut_off_goes_on(pictures: tuple[str, Path], fake: Fake, tmp_path: Path) -> None:
    """The vectors of the run before are kept to their last bit, and no picture is asked of twice."""
    url, folder = pictures
    (folder / "N.jpg").unlink()
    path = tmp_path / "t.parquet"
    options = ("--parquet", path, "--batch-size", "1", "--concurrency", "1", "--retries", "0", "--url", url)
    refused = refuse(grpc.StatusCode.UNAVAILABLE)
    fake[0].behave = lambda call, *rest: refused(call, *rest) if call > 2 else None
    assert run("embed", folder, *options).returncode == ServerUnavailable.exit_code
    assert not path.exists()
    fake[0].behave = lambda *_: None
    before = fake[0].calls
    done = run("embed", folder, *options)
    assert (done.returncode, fake[0].calls - before) == (0, 1), done.stderr
    with Client(url) as client:
        rows = [client.embed(name.encode()).tolist() for name in "abc"]
    assert parquet.read_table(path).column("vector").to_pylist() == rows
