"""Models of texts as clients ask them: lists, streams, files of texts, the gateway. One real server for all of it."""

from __future__ import annotations

import asyncio
import csv
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import text_models
from conftest import ANY_PORTS
from gateways import gateway
from processes import started
from pyarrow import parquet
from text_models import MOST, vector
from typer.testing import CliRunner
from waiting import until

from builder.launchers import LAUNCHERS
from builder.types import Endpoints
from client import AsyncClient, Client, ClientError, InvalidInput, ModelNotFound, ServerError
from client.cli import app
from client.errors import TooLarge, UnwritableFile

MODEL = ("--model", "mood")
ENDINGS = ("csv", "jsonl", "parquet")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    repository = tmp_path_factory.mktemp("texts") / "repository"
    text_models.write(repository)
    running = LAUNCHERS["embedded"].launch(repository, replace(ANY_PORTS, verify_integrity=False))
    yield running.endpoints
    running.stop()


@pytest.fixture(params=["grpc", "http"])
def client(request: pytest.FixtureRequest, served: Endpoints) -> Iterator[Client]:
    with Client(
        served.grpc if request.param == "grpc" else f"http://{served.http.removeprefix('http://')}"
    ) as connection:
        yield connection


def lists(vectors: Any) -> list[list[float]]:
    return [one.tolist() for one in vectors]


def test_a_list_or_tuple_of_texts_is_a_list_of_vectors(client: Client) -> None:
    texts = [f"text {number} – ü" for number in range(20)]  # the largest batch is 8
    assert lists(client.embed(texts)) == list(map(vector, texts))
    assert lists(client.embed(tuple(texts[:3]), "sentences")) == list(map(vector, texts[:3]))
    assert lists(client.embed([b"caf\xc3\xa9", b"x\0"])) == [vector("café"), vector("x\0")]
    assert lists(client.embed(["", " "])) == [vector(""), vector(" ")]
    assert client.embed([]) == []
    assert client.embed(["x"])[0].dtype == np.float32


def test_classes_have_the_names_of_the_file_or_of_the_config(client: Client) -> None:
    texts = ["good", "no", "good, too", "so", "or so"]
    found = client.classify(texts, "mood", top=1)
    assert [[(one.class_id, one.label, one.probability) for one in row] for row in found] == [
        [(0, "glad", 0.75)] if "good" in text else [(1, "=sad", 0.875)] for text in texts
    ]
    assert [[one.label for one in row] for row in client.classify(texts[:2], "tone")] == [
        ["up", "down"],
        ["down", "up"],
    ]
    assert client.classify(["no"], "tone", threshold=0.9) == [()]


def test_models_say_what_they_are_and_which_there_are(client: Client) -> None:
    info = client.model("sentences")
    assert (info.task, info.max_text_bytes) == ("text", MOST)
    with pytest.raises(ModelNotFound, match=r"the text classifiers at .* are: mood, tone"):
        client.classify(["x"])
    with pytest.raises(ModelNotFound, match="mood does not make vectors of texts"):
        client.embed(["x"], "mood")
    with pytest.raises(ModelNotFound, match="sentences is for text, and does not make vectors of encoded images"):
        client.embed(b"jpeg", "sentences")
    with pytest.raises(ModelNotFound, match=r"image classifiers at .* are: none"):
        client.classify(b"jpeg")


@pytest.mark.parametrize(
    ("bad", "kind", "words"),
    [
        ("half \ud800", InvalidInput, r"texts\[1\]: character 5 of the text is half a pair"),
        (b"caf\xe9", InvalidInput, r"texts\[1\]: the text is no UTF-8 from byte 3 on"),
        ("x" * (MOST + 1), TooLarge, rf"texts\[1\]: the text has {MOST + 1} bytes; at most {MOST} are accepted"),
        (
            Path("a.jpg"),
            InvalidInput,
            r"texts\[1\]: texts are str, or bytes of UTF-8, and this is of the type PosixPath",
        ),
    ],
)
def test_a_bad_text_is_named_and_spoils_no_others_of_a_stream(
    bad: Any, kind: type[ClientError], words: str, client: Client
) -> None:
    texts = ["a", bad, "b"]
    with pytest.raises(kind, match=words):
        client.embed(texts, "sentences")
    outcomes = list(client.embed_texts_many(iter(texts), batch_size=3))
    assert [one.text for one in outcomes] == texts
    assert [type(one.error) for one in outcomes] == [type(None), kind, type(None)]
    assert lists([outcomes[0].answer, outcomes[2].answer]) == [vector("a"), vector("b")]


def test_what_the_server_refuses_or_gives_no_vector_of_spoils_no_others(client: Client) -> None:
    with pytest.raises(ServerError, match="not finite"):
        client.embed(["a", "NaN"])
    outcomes = list(client.embed_texts_many(["a", "NaN", "refused", "b"], batch_size=4))
    assert [one.error and str(one.error) for one in outcomes] == [
        None, "sentences gave a vector with numbers that are not finite", "the text is refused", None,
    ]  # fmt: skip


def test_streams_may_be_endless(client: Client) -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        for taken in itertools.count(1):
            yield f"good {taken}"

    outcomes = client.classify_texts_many(endless(), "mood", top=1, concurrency=2, batch_size=4)
    found = list(itertools.islice(outcomes, 30))
    outcomes.close()
    assert [one.text for one in found] == [f"good {n}" for n in range(1, 31)]
    assert {one.answer[0].label for one in found} == {"glad"}
    assert taken <= 30 + 2 * 2 * 4
    with pytest.raises(InvalidInput, match="a single text is not many"):
        client.embed_texts_many("a text")


def test_event_loops_are_given_the_same(served: Endpoints) -> None:
    async def many() -> Any:
        for number in range(5):
            yield f"t{number}"

    async def ask() -> None:
        async with AsyncClient(served.grpc) as client:
            assert lists(await client.embed(["a", "b"])) == [vector("a"), vector("b")]
            assert [row[0].label for row in await client.classify(["good", "no"], "mood", top=1)] == ["glad", "=sad"]
            outcomes = [one async for one in client.embed_texts_many(many(), batch_size=2)]
            assert lists(one.answer for one in outcomes) == [vector(f"t{n}") for n in range(5)]
            labels = [one.answer[0].label async for one in client.classify_texts_many(["good", "no"], "tone", top=1)]
            assert labels == ["up", "down"]
            with pytest.raises(InvalidInput, match=r"texts\[0\]: the text is no UTF-8"):
                await client.embed([b"\xff"])

    asyncio.run(ask())


# --- files ---


def run(served: Endpoints, *words: str | Path, given: bytes | None = None) -> tuple[int, str, str]:
    """Exit code, output and errors of a command, as its program has them."""
    done = CliRunner().invoke(app, [*map(str, words), "--url", served.grpc], input=given)
    error = done.exception
    if isinstance(error, ClientError):
        return error.exit_code, done.stdout, str(error)
    return done.exit_code, done.stdout, done.stderr


LINES = ["good", "", "=1+1", "a\tb", "ü – 日本", "no"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A byte order mark, both ends of lines, an empty one, a formula, and a last line without its end."""
    path = tmp_path / "texts.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "good\n\r\n=1+1\na\tb\r\nü – 日本\nno".encode())
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as opened:
            return list(csv.DictReader(opened))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    found: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return found


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_line_is_a_text_and_a_row(ending: str, served: Endpoints, file: Path, tmp_path: Path) -> None:
    table = tmp_path / f"out.{ending}"
    assert run(served, "embed", "--text", file, f"--{ending}", table)[0] == 0
    found = rows(table)
    assert [row["path"] for row in found] == [f"{file}:{number}" for number in range(1, 7)]
    shown = ["'=1+1" if ending == "csv" and text == "=1+1" else text for text in LINES]
    assert [row["text"] for row in found] == shown
    if ending == "csv":
        assert [[float(row[f"v{n}"]) for n in (1, 2, 3)] for row in found] == list(map(vector, LINES))
        assert list(found[0]) == ["path", "error", "text", "v1", "v2", "v3"]
    else:
        assert [row["vector"] for row in found] == list(map(vector, LINES))
    assert "digest" not in found[0]
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("ending", ENDINGS)
def test_bad_texts_are_rows_with_the_reason(ending: str, served: Endpoints, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"good\ncaf\xe9\n" + b"x" * 10_000_000 + b"\nrefused\nNaN\nlast")
    table = tmp_path / f"out.{ending}"
    code, _, told = run(served, "embed", "--text", tmp_path / "t.txt", f"--{ending}", table)
    assert (code, told) == (6, f"repo-client: {table}: 4 of 6 texts have an error in place of a vector\n")
    found = rows(table)
    assert [row.get("error") or "" for row in found] == [
        "",
        "the text is no UTF-8 from byte 3 on",
        f"the text has 10000000 bytes; at most {MOST} are accepted",
        "the text is refused",
        "sentences gave a vector with numbers that are not finite",
        "",
    ]
    assert [row.get("text") or "" for row in found] == ["good", "", "", "refused", "NaN", "last"]


def test_classes_of_texts_in_a_table(served: Endpoints, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("good\nno\n")
    words = ("classify", "--text", tmp_path / "t.txt", *MODEL, "--top", "1")
    assert run(served, *words, "--csv", tmp_path / "out.csv")[0] == 0
    assert (tmp_path / "out.csv").read_text().splitlines() == [
        "path,error,text,class_1,label_1,probability_1",
        f"{tmp_path}/t.txt:1,,good,0,glad,0.75",
        f"{tmp_path}/t.txt:2,,no,1,'=sad,0.875",
    ]


def test_the_terminal_shows_where_and_what(served: Endpoints, file: Path, tmp_path: Path) -> None:
    _, told, _ = run(served, "classify", "--text", file, *MODEL, "--top", "1")
    assert told.splitlines()[:2] == [f"{file}:1  good", "  75.0000%  glad"]
    _, told, _ = run(served, "embed", "--text", file, "--json")
    first, *_, last = map(json.loads, told.splitlines())
    assert first == {"path": f"{file}:1", "text": "good", "vector": vector("good")}
    assert last["text"] == "no"
    (tmp_path / "bad").write_bytes(b"\xff\n")
    code, told, _ = run(served, "embed", "--text", tmp_path / "bad", "--json")
    assert code == 6
    assert json.loads(told)["error"] == {
        "type": "InvalidInput", "message": f"{tmp_path}/bad:1: the text is no UTF-8 from byte 0 on",
    }  # fmt: skip


def test_texts_from_the_standard_input(served: Endpoints) -> None:
    program = [sys.executable, "-m", "client.cli", "embed", "--text", "-", "-0", "--json", "--url", served.grpc]
    done = subprocess.run(program, input=b"two\nlines\0\0last", capture_output=True, timeout=120)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["path"], one["text"]) for one in found] == [
        ("stdin:1", "two\nlines"), ("stdin:2", ""), ("stdin:3", "last"),
    ]  # fmt: skip


def test_files_and_patterns_in_their_order(served: Endpoints, tmp_path: Path) -> None:
    for name in ("a1.txt", "a2.txt", "b.txt"):
        (tmp_path / name).write_text(f"{name}\n")
    _, told, _ = run(served, "embed", "--text", tmp_path / "b.txt", tmp_path / "a*.txt", "--json")
    assert [json.loads(line)["text"] for line in told.splitlines()] == ["b.txt", "a1.txt", "a2.txt"]
    for name, code in (("none.txt", 7), ("", 7), ("*.none", 6)):
        refused = run(served, "embed", "--text", tmp_path / "b.txt", tmp_path / name, "--csv", tmp_path / "out.csv")
        assert refused[0] == code
        assert (tmp_path / "out.csv.partial").read_text().count("\n") == 1  # nothing was asked yet
    (tmp_path / "nothing.txt").touch()
    assert run(served, "embed", "--text", tmp_path / "nothing.txt", "--csv", tmp_path / "empty.csv")[0] == 0
    assert (tmp_path / "empty.csv").read_text() == "path,error,text,v1,v2,v3\n"


def test_a_run_that_is_killed_goes_on_and_ends_as_one_that_was_not(served: Endpoints, tmp_path: Path) -> None:
    """Of 5000 lines. The rows of before are not asked for anew: the model's counter says so."""
    source, whole, cut = tmp_path / "t.txt", tmp_path / "whole.parquet", tmp_path / "cut.parquet"
    source.write_text("".join(f"line {number} {'x' * (number % 50)}\n" for number in range(5000)))
    assert run(served, "embed", "--text", source, "--parquet", whole)[0] == 0
    words = ["embed", "--text", str(source), "--parquet", str(cut), "--concurrency", "1", "--batch-size", "4"]
    partial = tmp_path / "cut.parquet.partial"
    with started([sys.executable, "-m", "client.cli", *words, "--url", served.grpc]) as process:
        until(lambda: partial.exists() and partial.stat().st_size > 20_000)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert not cut.exists()
    done = partial.read_bytes().count(b"\n") - 1
    assert 0 < done < 5000
    with Client(served.grpc) as client:
        (before,) = client.statistics("sentences")
        assert run(served, *words[:-4])[0] == 0
        (after,) = client.statistics("sentences")
    assert after.inferences - before.inferences == 5000 - done
    assert parquet.read_table(cut) == parquet.read_table(whole)
    assert not partial.exists()


@pytest.mark.parametrize(
    "change",
    ["good\nother\nno\n", "good\n", "\ngood\nNaN\nno\n", "good\nnan\nno\n"],
    ids=["another line", "fewer lines", "a line before", "a line that had an error"],
)
def test_a_file_that_changed_meanwhile_is_not_gone_on_with(change: str, served: Endpoints, tmp_path: Path) -> None:
    source, table = tmp_path / "t.txt", tmp_path / "out.csv"
    source.write_text("good\nNaN\n")
    words = ("embed", "--text", source, "--csv", table, "--model", "sentences")
    run(served, *words)
    run(served, "embed", "--text", source, "--jsonl", tmp_path / "notes.jsonl")
    kept = _begun(served, source, table)
    source.write_text(change)
    code, _, told = run(served, *words, "--overwrite")
    assert (code, "was begun with other texts" in told) == (UnwritableFile.exit_code, True), told
    assert f"{source}:" in told
    assert kept.exists()
    source.write_text("good\nNaN\nmore\n")  # what came behind is asked for
    assert run(served, *words, "--overwrite")[0] == 6
    assert [row["text"] for row in rows(table)] == ["good", "NaN", "more"]


def _begun(served: Endpoints, source: Path, table: Path) -> Path:
    """The journal of a run that has its rows, and could not write the table."""
    folder = table.with_name(table.name + ".staged")
    folder.mkdir()
    assert run(served, "embed", "--text", source, "--csv", table, "--overwrite")[0] == UnwritableFile.exit_code
    folder.rmdir()
    return table.with_name(table.name + ".partial")


def test_options_that_make_no_sense_have_one_exit_code(served: Endpoints, file: Path) -> None:
    for words in (
        ("classify", "--text", file, *MODEL, "--threshold", "7"),
        ("classify", "--text", file, *MODEL, "--top", "0"),
        ("classify", "--text", file, *MODEL, "--threshold", "nan"),
        ("detect", file, "--threshold", "7"),
        ("similar", file, "--text", "x", "--threshold", "95"),
        ("embed", "--text", file, "--header", "nothing"),
        ("gateway", "--tls-cert", file),
    ):
        assert run(served, *words)[0] == 2, words
    assert run(served.__class__("ftp://x", "", ""), "models")[0] == 2


def test_what_is_like_a_text(served: Endpoints, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("one\ntwo\none\n")
    table = tmp_path / "t.parquet"
    assert run(served, "embed", "--text", tmp_path / "t.txt", "--parquet", table)[0] == 0
    for among in (table, tmp_path / "t.txt"):
        code, told, _ = run(served, "similar", among, "--text", "two", "--top", "1", "--json")
        assert code == 0
        found = json.loads(told)
        assert (found["image"], found["cosine"]) == (f"{tmp_path}/t.txt:2", pytest.approx(1))
        assert found.get("text") == ("two" if among == table else None)
    _, told, _ = run(served, "similar", table, "--text", "two", "--top", "1")
    assert told == f" 1.0000  {tmp_path}/t.txt:2  two\n"
    _, told, _ = run(served, "similar", table, "--duplicates", "--threshold", "1")
    assert told == f" 1.0000  {tmp_path}/t.txt:1  {tmp_path}/t.txt:3\n"
    (tmp_path / "bad.txt").write_bytes(b"one\n\xff\n")
    code, told, error = run(served, "similar", tmp_path / "bad.txt", "--text", "one")
    assert (code, told) == (6, f" 1.0000  {tmp_path}/bad.txt:1\n")
    assert "bad.txt:2: left out" in error


def test_models_are_listed(served: Endpoints) -> None:
    _, told, _ = run(served, "models")
    (line,) = (line for line in told.splitlines() if line.startswith("sentences"))
    assert line.split() == ["sentences", "1", "text", "python", "8", "TEXT:BYTES[-1,1]", "EMBEDDING:FP32[-1,3]"]


# --- the gateway ---


@pytest.fixture(scope="module")
def url(served: Endpoints) -> Iterator[str]:
    with gateway(served.grpc, "--max-bytes", "5000") as address:
        yield address


def test_the_gateway_answers_a_text_as_a_picture_and_lists_one_by_one(url: str) -> None:
    assert httpx.get(url + "/readyz").status_code == 200
    assert httpx.get(url + "/models").json() == {
        "models": ["mood", "sentences", "tone"],
        "default": None,
        "tasks": {"mood": "text", "sentences": "text", "tone": "text"},
        "routes": {"mood": "/classify", "sentences": "/embed", "tone": "/classify"},
    }
    texts = {"texts": ["a", "ü"]}
    assert httpx.post(url + "/embed", json=texts).json() == {
        "results": [{"embedding": vector("a")}, {"embedding": vector("ü")}]
    }
    plain = {"content-type": "text/plain; charset=utf-8"}
    one = httpx.post(url + "/embed", content="ü\nb".encode(), headers=plain)
    assert one.json() == {"embedding": vector("ü\nb")}
    assert "triton;dur=" in one.headers["server-timing"]
    found = httpx.post(url + "/classify?model=mood&top=1", json={"texts": ["good"] * 9}).json()["results"]
    assert found == [{"predictions": [{"class": 0, "label": "glad", "probability": 0.75}]}] * 9
    told = httpx.post(url + "/classify?model=tone&threshold=0.8", content=b"no", headers=plain).json()
    assert told == {"predictions": [{"class": 1, "label": "down", "probability": 0.875}]}


@pytest.mark.parametrize(
    ("route", "more", "status", "words"),
    [
        ("/embed", {"json": {"texts": ["a", "\ud800"]}}, 400, "texts[1]: character 0"),
        ("/embed", {"json": {"texts": ["a", 7]}}, 400, "texts[1] is no text"),
        ("/embed", {"json": {"texts": []}}, 400, "no list of texts"),
        ("/embed", {"json": {"texts": "a"}}, 400, "no list of texts"),
        ("/embed", {"json": {"texts": ["a"], "image": "b"}}, 400, "both"),
        ("/embed", {"json": {"words": ["a"]}}, 400, "neither"),
        ("/embed", {"json": {"texts": ["a", "x" * 1001]}}, 413, "texts[1]: the text has 1001 bytes"),
        ("/embed", {"json": {"texts": ["a"] * 1001}}, 413, "1001 texts"),
        ("/embed", {"json": {"texts": ["é" * 400] * 7}}, 413, "more than 5000 bytes"),
        ("/embed", {"content": b"\xff", "headers": {"content-type": "text/plain"}}, 400, "no UTF-8 from byte 0"),
        ("/embed", {"content": b"x", "headers": {"content-type": "text/plain; charset=latin-1"}}, 415, "latin-1"),
        ("/embed", {"content": b"", "headers": {"content-type": "text/plain"}}, 400, "nothing in the request"),
        ("/detect", {"content": b"x", "headers": {"content-type": "text/plain"}}, 415, "text/plain"),
        (
            "/embed?model=mood",
            {"json": {"texts": ["a"]}},
            404,
            "mood is not one of the models that make vectors of texts",
        ),
        ("/classify", {"json": {"texts": ["a"]}}, 400, "mood, tone"),
        (
            "/embed?model=sentences",
            {"content": b"x", "headers": {"content-type": "image/png"}},
            404,
            "embedding models",
        ),
        ("/embed", {"json": {"texts": ["NaN"]}}, 502, "not finite"),
        ("/embed?top=3", {"json": {"texts": ["a"]}}, 400, "top: no such query parameter here; there are: model"),
    ],
)
def test_the_gateway_names_what_is_wrong(route: str, more: Any, status: int, words: str, url: str) -> None:
    if "json" in more:  # httpx would refuse half a pair
        more = {"content": json.dumps(more["json"]), "headers": {"content-type": "application/json"}}
    answer = httpx.post(url + route, **more)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]["message"]


def test_openapi_tells_of_texts(url: str) -> None:
    paths = httpx.get(url + "/openapi.json").json()["paths"]
    for route in ("/embed", "/classify"):
        assert "text/plain" in paths[route]["post"]["requestBody"]["content"]
    assert "text/plain" not in paths["/detect"]["post"]["requestBody"]["content"]
