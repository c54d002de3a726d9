"""repo-client classify: many files into one table, or to the terminal."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import grpc
import pyarrow.parquet
import pytest
import warm
from fake_triton import FakeTriton, refuse
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import started
from trees import deep

from builder.data.images import SAMPLES
from builder.types import Endpoints
from client import InvalidInput, Prediction, UnreadableFile
from client.batch.journal import Journal
from client.batch.rows import Row, as_line, as_record, from_record
from client.batch.sources import find
from client.batch.tables import WRITERS
from client.images import read_image
from client.shown import printable
from client.tasks import classification
from client.types import ModelInfo, TensorInfo

Fake = tuple[FakeTriton, str]
SCORES = TensorInfo("PROBABILITIES", "FP32", (-1, 2))
PETS = ModelInfo("pets", ("1",), "ensemble", 4, (TensorInfo("IMAGE", "BYTES", (-1, 1)),), (SCORES,))
COLUMNS = classification.columns(PETS, classification.request([], 1, None))
ENDINGS = {"csv": "--csv", "jsonl": "--jsonl", "parquet": "--parquet"}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "client.cli", "classify", *map(str, arguments)]


def classify(*arguments: str | Path, listed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    if not listed:
        return warm.run_bytes("client.cli", "classify", *arguments)
    return subprocess.run(command(*arguments), input=listed, capture_output=True, timeout=120)


def read(path: Path) -> list[tuple[str, str, str]]:
    """Path, first label and error of each row, whatever the format."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [(row["path"], row["label_1"], row["error"]) for row in csv.DictReader(file)]
    if path.suffix == ".jsonl":
        records = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        records = pyarrow.parquet.read_table(path).to_pylist()
    return [(r["path"], (r.get("predictions") or [{"label": ""}])[0]["label"], r.get("error") or "") for r in records]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Images, some in subfolders, one of them broken, one gone, and things that are none."""
    folder = tmp_path / "pictures"
    for name in ("b.jpg", "a.PNG", "sub/d.jpeg", "sub/deep/e.webp", "c.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"bad" if name == "c.jpg" else b"good")
    (folder / "notes.txt").write_text("none of these")
    (folder / "sub" / "gone.jpg").symlink_to("nowhere")
    return folder


ORDER = ["a.PNG", "b.jpg", "c.jpg", "sub/d.jpeg", "sub/gone.jpg", "sub/deep/e.webp"]


def refuse_bad(_: int, request: Any, context: grpc.ServicerContext) -> None:
    if b"bad" in request.raw_input_contents[0]:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not an image")


@pytest.mark.parametrize("form", WRITERS)
def test_one_row_an_image_in_input_order(form: str, fake: Fake, pictures: Path, tmp_path: Path) -> None:
    servicer, url = fake
    servicer.behave = refuse_bad
    table = tmp_path / f"out.{form}"
    done = classify(pictures, "--url", url, ENDINGS[form], table)
    rows = read(table)
    assert [Path(path).relative_to(pictures).as_posix() for path, _, _ in rows] == ORDER
    assert [label for _, label, _ in rows] == ["dog: large", "dog: large", "", "dog: large", "", "dog: large"]
    assert [error for _, _, error in rows if error] == ["not an image", "No such file or directory"]
    assert done.returncode == 6
    assert b"2 of 6 images" in done.stderr
    assert done.stdout == b""
    assert sorted(path.name for path in tmp_path.iterdir()) == [table.name, "pictures"]


def test_silent_where_all_goes_well(fake: Fake, pictures: Path, tmp_path: Path) -> None:
    done = classify(pictures / "sub" / "d.jpeg", "--url", fake[1], "--csv", tmp_path / "out.csv", "--top", "1")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "path,error,class_1,label_1,probability_1"


@pytest.mark.parametrize("form", WRITERS)
def test_run_that_is_killed_goes_on(form: str, fake: Fake, tmp_path: Path) -> None:
    servicer, url = fake
    for number in range(60):
        (tmp_path / f"{number:03}.jpg").write_bytes(b"good %d" % number)
    asked: list[bytes] = []
    reached, released = threading.Event(), threading.Event()

    def behave(_: int, request: Any, __: Any) -> None:
        asked.append(request.raw_input_contents[0][4:])
        if len(asked) == 30:
            reached.set()
            released.wait(60)

    servicer.behave = behave
    table = tmp_path / f"out.{form}"
    arguments = command(tmp_path, "--url", url, ENDINGS[form], table, "--concurrency", "1", "--batch-size", "1")
    with started(arguments) as process:
        assert reached.wait(60)
        process.kill()
    released.set()
    assert not table.exists()
    with (tmp_path / f"out.{form}.partial").open("ab") as file:
        file.write(b'{"path": "torn')  # what a full disk or a power cut leaves
    servicer.behave = lambda _, request, __: asked.append(request.raw_input_contents[0][4:])
    assert classify(*arguments[4:]).returncode == 0
    assert [Path(path).name for path, _, _ in read(table)] == [f"{n:03}.jpg" for n in range(60)]
    assert len(asked) <= 60 + 3  # the one that hung, and what was in flight
    assert set(asked) == {b"good %d" % n for n in range(60)}


def test_server_that_goes_away_ends_the_run_and_costs_no_rows(fake: Fake, pictures: Path, tmp_path: Path) -> None:
    servicer, url = fake
    table = tmp_path / "out.jsonl"
    options = ["--url", url, "--jsonl", table, "--retries", "0", "--concurrency", "1", "--batch-size", "1"]
    servicer.behave = lambda call, *rest: (call > 2 and refuse(grpc.StatusCode.UNAVAILABLE)(call, *rest)) or None
    done = classify(pictures, *options)
    assert done.returncode == 3
    assert b"is unavailable" in done.stderr
    assert not table.exists()
    servicer.behave = lambda *_: None
    before = servicer.calls
    assert classify(pictures, *options).returncode == 6  # for the file that is gone
    assert servicer.calls - before == 3
    assert [Path(path).relative_to(pictures).as_posix() for path, _, _ in read(table)] == ORDER


def test_interrupt_does_not_wait_for_a_server_that_hangs(fake: Fake, pictures: Path, tmp_path: Path) -> None:
    servicer, url = fake
    reached, release = threading.Event(), threading.Event()

    def behave(*_: Any) -> None:
        reached.set()
        release.wait(60)

    servicer.behave = behave
    arguments = command(pictures, "--url", url, "--csv", tmp_path / "out.csv")
    with started(arguments, stderr=subprocess.PIPE) as run:
        assert reached.wait(60)
        run.send_signal(signal.SIGINT)
        _, stderr = run.communicate(timeout=20)
    release.set()
    assert run.returncode == 130
    assert b"Traceback" not in stderr


def test_existing_table_is_not_replaced_unasked(fake: Fake, pictures: Path, tmp_path: Path) -> None:
    table = tmp_path / "out.csv"
    table.write_text("precious")
    done = classify(pictures / "b.jpg", "--url", fake[1], "--csv", table)
    assert done.returncode == 11
    assert b"--overwrite" in done.stderr
    assert table.read_text() == "precious"
    assert classify(pictures / "b.jpg", "--url", fake[1], "--csv", table, "--overwrite").returncode == 0
    assert len(read(table)) == 1


def test_partial_run_with_other_options_is_refused(fake: Fake, pictures: Path, tmp_path: Path) -> None:
    table = tmp_path / "out.csv"
    (tmp_path / "out.csv.partial").write_text(as_line({"model": "pets", "top": 3}))
    done = classify(pictures / "b.jpg", "--url", fake[1], "--csv", table)
    assert done.returncode == 11
    assert b'was begun with {"model": "pets", "top": 3}' in done.stderr


def test_two_runs_do_not_write_one_table(tmp_path: Path) -> None:
    with Journal(tmp_path / "x.partial", "pets", COLUMNS), pytest.raises(Exception, match="another run"):
        Journal(tmp_path / "x.partial", "pets", COLUMNS)


@pytest.mark.parametrize(
    ("target", "code", "message"),
    [
        ("x" * 300 + ".csv", 11, b"File name too long"),
        ("no/such/folder/out.csv", 11, b"No such file"),
        ("empty", 6, b"there are no images"),
        ("*.none", 6, b"no file"),
    ],
)
def test_what_cannot_be_done_is_said(target: str, code: int, message: bytes, fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.jpg").write_bytes(b"x")
    source, table = (tmp_path / "x.jpg", target) if target.endswith("csv") else (tmp_path / target, "out.csv")
    done = classify(source, "--url", fake[1], "--csv", tmp_path / table)
    assert done.returncode == code
    assert message in done.stderr
    assert b"Traceback" not in done.stderr


def test_one_kind_of_table_at_a_time(pictures: Path, tmp_path: Path) -> None:
    done = classify(pictures, "--csv", tmp_path / "a", "--jsonl", tmp_path / "b")
    assert done.returncode == 2


@pytest.mark.parametrize(("option", "end"), [([], b"\n"), (["-0"], b"\0")])
def test_lists_on_the_standard_input(option: list[str], end: bytes, fake: Fake, pictures: Path) -> None:
    names = [os.fsencode(pictures / "b.jpg"), os.fsencode(pictures / "sub" / "d.jpeg")]
    done = classify("-", *option, "--url", fake[1], "--json", listed=end.join(names))
    assert [json.loads(line)["image"].encode() for line in done.stdout.splitlines()] == names


def test_patterns_that_the_shell_left_alone(fake: Fake, pictures: Path) -> None:
    done = classify(pictures / "**" / "*.jp*g", "--url", fake[1], "--json")
    found = [json.loads(line)["image"] for line in done.stdout.splitlines()]
    assert [Path(path).name for path in found] == ["b.jpg", "c.jpg", "d.jpeg", "gone.jpg"]


def test_file_names_of_any_bytes_survive(fake: Fake, tmp_path: Path) -> None:
    names = [b"caf\xe9.jpg", b'quo"te,\nline.jpg', "日本.jpg".encode()]
    folder = tmp_path / "in"
    folder.mkdir()
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(b"good")
    for form, option in ENDINGS.items():
        assert classify(folder, "--url", fake[1], option, tmp_path / f"out.{form}").returncode == 0
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert {os.fsencode(Path(path).name) for path in paths} == set(names)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["path"] for line in lines] == paths
    rows = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    exact = {(row["path_bytes"] or row["path"].encode()).rpartition(b"/")[2] for row in rows}
    assert exact == set(names)
    assert "caf\ufffd.jpg" in {Path(row["path"]).name for row in rows}
    shown = classify(folder, "--url", fake[1]).stdout.decode()
    assert "caf\\xe9.jpg\n" in shown
    assert 'quo"te,\\nline.jpg\n' in shown


def test_formulas_and_options_are_neither(fake: Fake, tmp_path: Path) -> None:
    names = ["=1+1.jpg", "-rf.jpg", "@a.jpg", "+b.jpg", "plain.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(b"good")
    fake[0].labels = (b"=cmd|calc", b"cat")
    arguments = command("-", "--url", fake[1], "--csv", "out.csv", "--top", "1")
    subprocess.run(arguments, input="\n".join(names).encode(), cwd=tmp_path, check=True, timeout=120)
    rows = read(tmp_path / "out.csv")
    assert [path for path, _, _ in rows] == ["./=1+1.jpg", "./-rf.jpg", "./@a.jpg", "./+b.jpg", "plain.jpg"]
    assert all((tmp_path / path).is_file() for path, _, _ in rows)
    assert {label for _, label, _ in rows} == {"'=cmd|calc"}


def test_what_is_no_file_is_a_row_and_is_not_waited_for(fake: Fake, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"good")
    os.mkfifo(folder / "b.png")
    (folder / "c.png").symlink_to("c.png")
    (folder / "d.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "e.png"))
    done = classify(folder, "--url", fake[1], "--csv", tmp_path / "out.csv")
    assert done.returncode == 6
    errors = [error.partition(",")[0] for _, _, error in read(tmp_path / "out.csv")]
    assert errors == ["", "it is a named pipe", "Too many levels of symbolic links", "it is a device", "it is a socket"]
    alone = classify(folder / "b.png", "--url", fake[1])
    assert alone.returncode == 7
    assert b"it is a named pipe" in alone.stderr


def test_a_pipe_that_the_shell_made_is_read(fake: Fake) -> None:
    done = classify("/dev/stdin", "--url", fake[1], listed=b"good")
    assert done.returncode == 0
    assert b"dog: large" in done.stdout


def test_a_pipe_that_is_refused_is_not_read_again(fake: Fake) -> None:
    fake[0].behave = lambda _, __, context: context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no known format")
    done = classify("/dev/stdin", "--url", fake[1], listed=b"bad")
    assert done.returncode == 6
    assert done.stderr.splitlines()[-1].endswith(b"no known format")
    assert b"Traceback" not in done.stderr


def test_a_closed_standard_input_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UnreadableFile, match="standard input is closed"):
        list(find(["-"]))


def test_a_file_with_a_lease_is_waited_for(tmp_path: Path) -> None:
    """As file servers have them for their clients, until somebody else opens the file."""
    path = tmp_path / "a.png"
    path.write_bytes(b"good")
    program = (
        "import fcntl, os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])\n"
        "file = os.open(sys.argv[1], os.O_RDWR); fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n"
        "print(flush=True); signal.sigwait([signal.SIGIO]); fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)"
    )
    with started([sys.executable, "-c", program, path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n"
        assert read_image(path) == b"good"


def test_formats_without_a_decoder_are_rows_by_name(fake: Fake, tmp_path: Path) -> None:
    fake[0].behave = lambda _, __, context: context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no known format")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "in" / "b.jxl").write_bytes(b"\xff\x0a")
    assert classify(tmp_path / "in", "--url", fake[1], "--csv", tmp_path / "out.csv").returncode == 6
    assert [error for _, _, error in read(tmp_path / "out.csv")] == [
        "HEIC, which the server did not take: no known format",
        "JPEG XL, which the server did not take: no known format",
    ]


def test_trees_of_any_depth(tmp_path: Path) -> None:
    """Deeper than Python calls functions; and than the system opens paths, which is told."""
    with deep(tmp_path / "in", "d", 1050):
        assert list(find([str(tmp_path / "in")])) == [str(tmp_path / "in" / "a.png")]
    with deep(tmp_path / "too", "d" * 200, 24):
        first, told = find([str(tmp_path / "too")])
        assert first == str(tmp_path / "too" / "a.png")
        with pytest.raises(UnreadableFile, match="File name too long"):
            read_image(told)


def test_a_name_that_no_file_can_have_is_no_more_than_a_row() -> None:
    assert list(find(["x" * 300, "\0"])) == ["x" * 300, "\0"]


def test_patterns_do_not_go_in_circles(tmp_path: Path) -> None:
    for name in ("a/b", "c"):
        (tmp_path / name).mkdir(parents=True)
        for link in ("loop", "also"):
            (tmp_path / name / link).symlink_to(tmp_path)
        (tmp_path / name / "x.png").touch()
    expected = {"a/b/x.png", "c/x.png"}
    for pattern in ("**/*.png", "**/x.png", "**/**/*.png"):
        assert {os.path.relpath(path, tmp_path) for path in find([str(tmp_path / pattern)])} == expected
    assert {os.path.relpath(path, tmp_path) for path in find([str(tmp_path / "*" / "**" / "x.png")])} == expected


def test_patterns_stay_in_their_folder(tmp_path: Path) -> None:
    (tmp_path / "in" / "b").mkdir(parents=True)
    for name in ("in/a.png", "in/b/c.png", "d.png"):
        (tmp_path / name).touch()
    for pattern in ("in/**", "in/**//*", "in//**///*.png", "in/**//**", "in/**/**//*"):
        found = find([f"{tmp_path}/{pattern}"])
        assert {os.path.relpath(path, tmp_path) for path in found} == {"in/a.png", "in/b/c.png"}
    for pattern in ("in/**/", "in/*/", "**/", "in/**//", "d.png/**"):  # of folders, which are not given
        with pytest.raises(InvalidInput, match="no file matches"):
            list(find([f"{tmp_path}/{pattern}"]))


def test_real_photos(server: Endpoints, tmp_path: Path) -> None:
    options = ["--url", server.grpc, "--model", "torchscript_model", "--top", "3"]
    assert classify(SAMPLES, *options, "--csv", tmp_path / "out.csv").returncode == 0
    rows = read(tmp_path / "out.csv")
    assert [Path(path).name for path, _, _ in rows] == ["astronaut.jpg", "chelsea.jpg", "coffee.jpg", "rocket.jpg"]
    assert {label for _, label, _ in rows} <= {"cat", "dog", "other: thing"}


TEXT = st.text(st.characters(exclude_characters="\0"), max_size=12)
ROWS = st.lists(
    st.builds(
        Row,
        path=TEXT,
        answer=st.lists(st.builds(Prediction, st.integers(0, 999), TEXT, st.floats(0, 1, width=32)), max_size=3).map(
            tuple
        ),
        error=st.just(""),
    )
    | st.builds(Row, path=TEXT, error=TEXT.filter(bool)),
    max_size=8,
)


@given(row=ROWS.flatmap(lambda rows: st.sampled_from(rows or [Row("x", ())])))
def test_records_carry_all_of_a_row(row: Row) -> None:
    assert from_record(json.loads(as_line(as_record(row, COLUMNS))), COLUMNS) == row


NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name).map(os.fsdecode)


@settings(deadline=None)
@given(names=st.lists(NAMES, max_size=5), reason=st.text(st.characters(exclude_categories=["Cs"]), max_size=9))
def test_any_name_survives_in_any_table(names: list[str], reason: str, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("tables")
    rows = [Row(name, error=reason or "no") for name in names]
    for form, write in WRITERS.items():
        write(folder / form, rows, COLUMNS)
    with (folder / "csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        written = [row["path"] for row in csv.DictReader(file)]
    assert [path.removeprefix("./") for path in written] == [name.removeprefix("./") for name in names]
    assert not any(path.startswith(tuple("=+-@\t\r")) for path in written)
    text = (folder / "jsonl").read_text()
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert [json.loads(line)["path"] for line in text.splitlines()] == names
    table = pyarrow.parquet.read_table(folder / "parquet").to_pylist()
    assert [row["path_bytes"] or row["path"].encode() for row in table] == list(map(os.fsencode, names))
    assert all(printable(name).isprintable() for name in names)


PATHS = st.lists(st.text("abc", min_size=1, max_size=2), unique=True, max_size=12)


@given(before=PATHS, now=PATHS)
def test_what_remains_is_what_has_no_row(before: list[str], now: list[str], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("journal") / "x.partial"
    with Journal(path, "pets", COLUMNS) as journal:
        for name in before:
            journal.add(Row(name, ()))
    with Journal(path, "pets", COLUMNS) as journal:
        assert list(journal.remaining(now)) == [name for name in now if name not in before]
