"""repo-client moderate: forbidden images leave a folder, whatever happens on the way."""

import fcntl
import gzip
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_triton import FakeTriton, serving
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import started
from trees import deep
from waiting import until

from builder.data.images import SAMPLES
from builder.types import Endpoints
from client import Client, InvalidInput
from client import files as opening
from client.formats import is_image, looks_unfinished
from client.moderation import moving, places
from client.moderation.journal import Journal, Move
from client.moderation.judging import Judge
from client.moderation.rules import resolve, words
from client.moderation.run import Moderator, Orders
from client.moderation.walking import Left, Wanted, walk
from client.moderation.watch import Found, Patience, is_complete, look
from client.shown import json_line, printable

Fake = tuple[FakeTriton, str]
LABELS = {0: "cat", 1: "dog: large"}


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    folder = tmp_path / "uploads"
    folder.mkdir()
    return folder


@pytest.fixture
def triton(fake: Fake) -> Fake:
    judge_by_content(fake[0])
    return fake


def judge_by_content(servicer: FakeTriton) -> None:
    """An image that begins with `dog` is a dog, one that begins with `bad` is no image, and all else are cats."""

    def behave(_: int, request: Any, context: grpc.ServicerContext) -> None:
        if request.raw_input_contents[0][4:].startswith(b"bad"):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not an image")

    servicer.behave = behave
    servicer.probabilities = lambda image: (0.1, 0.9) if image.startswith(b"dog") else (0.9, 0.1)


def command(uploads: Path, url: str, *options: str | Path) -> list[str]:
    quarantine = uploads.parent / "quarantine"
    base = ["moderate", uploads, "--forbid", "dog: large", "--quarantine", quarantine, "--url", url]
    return [sys.executable, "-m", "client.cli", *map(str, [*base, "--settle", "0.3", "--interval", "0.05", *options])]


def moderate(uploads: Path, url: str, *options: str | Path) -> subprocess.CompletedProcess[str]:
    arguments = command(uploads, url, "--once", *options)
    return subprocess.run(arguments, capture_output=True, text=True, errors="surrogateescape", timeout=120)


def files(folder: Path) -> set[str]:
    """Of the users'; the quarantine's own books are left out."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".moderate"))
    return {path.relative_to(folder).as_posix() for path in found} - {"audit.jsonl"}


def audit(uploads: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (uploads.parent / "quarantine" / "audit.jsonl").read_text().splitlines()]


def test_existing_files_are_judged(triton: Fake, uploads: Path) -> None:
    for name, content in {
        "a.jpg": b"dog",
        "b.jpg": b"cat",
        "sub/c.png": b"dog",
        "d.gif": b"bad",
        "e.txt": b"dog",
    }.items():
        (uploads / name).parent.mkdir(exist_ok=True)
        (uploads / name).write_bytes(content)
    done = moderate(uploads, triton[1])
    assert done.returncode == 13, done.stderr
    assert files(uploads) == {"b.jpg", "e.txt"}
    assert files(uploads.parent / "quarantine") == {"a.jpg", "sub/c.png", "d.gif"}
    by_name = {Path(record["path"]).name: record for record in audit(uploads)}
    assert {name: record["verdict"] for name, record in by_name.items()} == {
        "a.jpg": "forbidden",
        "b.jpg": "clean",
        "c.png": "forbidden",
        "d.gif": "unjudged",
    }
    assert by_name["a.jpg"]["label"] == "dog: large"
    assert by_name["a.jpg"]["score"] == pytest.approx(0.9)
    assert by_name["a.jpg"]["model"] == "pets"
    assert by_name["d.gif"]["reason"] == "not an image"
    assert "quarantine" in done.stdout


def test_what_cannot_be_judged_is_let_through_only_where_asked(triton: Fake, uploads: Path) -> None:
    (uploads / "bad.jpg").write_bytes(b"bad")
    assert moderate(uploads, triton[1], "--fail-open").returncode == 6
    assert files(uploads) == {"bad.jpg"}
    (uploads / "bad2.jpg").write_bytes(b"bad")
    assert moderate(uploads, triton[1]).returncode == 6
    assert files(uploads.parent / "quarantine") == {"bad2.jpg"}


def test_clean_files_are_released(triton: Fake, uploads: Path) -> None:
    for name, content in {"a.jpg": b"dog", "b.jpg": b"cat", "c.jpg": b"bad"}.items():
        (uploads / name).write_bytes(content)
    assert moderate(uploads, triton[1], "--release", uploads.parent / "public").returncode == 13
    assert files(uploads) == set()
    assert files(uploads.parent / "public") == {"b.jpg"}


def test_second_run_asks_of_nothing_again(triton: Fake, uploads: Path) -> None:
    servicer, url = triton
    for name in "abc":
        (uploads / f"{name}.jpg").write_bytes(b"cat")
    assert moderate(uploads, url).returncode == 0
    before = servicer.calls
    assert moderate(uploads, url).returncode == 0
    assert servicer.calls - before == 1  # the picture that labels are looked up with
    (uploads / "b.jpg").write_bytes(b"dog")  # another upload under the same name
    assert moderate(uploads, url).returncode == 13
    assert files(uploads) == {"a.jpg", "c.jpg"}


def test_dry_run_changes_nothing(triton: Fake, uploads: Path) -> None:
    (uploads / "a.jpg").write_bytes(b"dog")
    done = moderate(uploads, triton[1], "--dry-run", "--json")
    assert json.loads(done.stdout)["action"] == "would quarantine"
    assert [path.name for path in uploads.parent.iterdir()] == ["uploads"]
    assert files(uploads) == {"a.jpg"}


def test_nothing_is_overwritten(triton: Fake, uploads: Path) -> None:
    quarantine = uploads.parent / "quarantine"
    for content in (b"dog 1", b"dog 2", b"dog 3"):
        (uploads / "a.jpg").write_bytes(content)
        assert moderate(uploads, triton[1]).returncode == 13
    assert {(quarantine / name).read_bytes() for name in files(quarantine)} == {b"dog 1", b"dog 2", b"dog 3"}


@pytest.fixture
def watching(uploads: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a watcher, which is stopped by SIGTERM afterwards and must end well."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    watchers: list[subprocess.Popen[str]] = []
    with ExitStack() as stack:

        def start(url: str, *options: str | Path) -> subprocess.Popen[str]:
            watchers.append(stack.enter_context(started(command(uploads, url, *options), **pipes)))
            return watchers[-1]

        yield start
        for process in watchers:
            process.terminate()
            process.communicate(timeout=60)
            assert process.returncode == 0


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_upload_is_judged_when_it_is_complete(triton: Fake, uploads: Path, watching: Any) -> None:
    seen: list[bytes] = []
    triton[0].behave = lambda _, request, __: seen.append(request.raw_input_contents[0][4:])
    watching(triton[1], "--json")
    with (uploads / "a.jpg").open("wb") as upload:
        for _ in range(4):
            upload.write(b"dog ")
            upload.flush()
            time.sleep(0.5)  # longer than it takes to settle, but it is open
    assert eventually(lambda: files(uploads) == set())
    assert (uploads.parent / "quarantine" / "a.jpg").read_bytes() == b"dog " * 4
    assert [data for data in seen if data.startswith(b"dog")] == [b"dog " * 4]


def test_what_is_looked_at(uploads: Path) -> None:
    for name in ("a.jpg.part", ".a.jpg.x7", "b.jpg", "notes.txt", "c.heic", ".git/d.jpg", "kept/e.jpg"):
        (uploads / name).parent.mkdir(exist_ok=True)
        (uploads / name).write_bytes(b"dog")
    wanted = Wanted(uploads, frozenset({uploads / "quarantine"}), ignored=("kept",))
    (uploads / "quarantine").mkdir()
    (uploads / "quarantine" / "c.jpg").write_bytes(b"dog")
    found = {item.path.relative_to(uploads).as_posix(): item for item in walk(wanted)}
    assert sorted(found) == [".a.jpg.x7", ".git/d.jpg", "a.jpg.part", "b.jpg", "c.heic"]
    unfinished = [name for name, item in found.items() if wanted.is_unfinished(item.path)]
    assert sorted(unfinished) == [".a.jpg.x7", ".git/d.jpg", "a.jpg.part"]
    assert len(list(walk(Wanted(uploads, every_file=True)))) == 8


@pytest.mark.parametrize(
    ("names", "image", "unfinished"),
    [
        ("a.png A.PNG a.png.1 a.png.bak a.png. a.png;v a.jpg:large a.png_ a.jpg.X7 a.b.png.old ~a.png", True, False),
        (
            "a.png.uploading a.png.opdownload a.png.tmp12 a.png.!qB a.png.swx .a.png a.png~ #a.png# .a.txt.png~",
            True,
            True,
        ),
        ("a.jpg.xmp a.png.json a.png.md5 a.png.ZIP a.txt png a.pngx a a.", False, False),
    ],
)
def test_images_by_name(names: str, image: bool, unfinished: bool) -> None:
    for name in names.split():
        assert (name, is_image(name)) == (name, image)
        assert (name, looks_unfinished(name)) == (name, unfinished)


def test_what_cannot_be_judged_is_not_passed_over(uploads: Path) -> None:
    (uploads / "data").write_bytes(b"dog")
    (uploads / "b.jpg").write_bytes(b"cat")
    (uploads.parent / "secret.jpg").write_bytes(b"dog")
    for name, target in {
        "inner.jpg": "b.jpg",
        "here": ".",
        "out.jpg": "../secret.jpg",
        "outside": "..",
        "loop.jpg": "loop.jpg",
        "gone.jpg": "nowhere.jpg",
        "note": "nowhere",
        "disguised.jpg": "data",
    }.items():
        (uploads / name).symlink_to(target)
    os.mkfifo(uploads / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(uploads / "s.jpg"))
    left = {item.path.name: item.reason for item in walk(Wanted(uploads)) if isinstance(item, Left)}
    assert left == {
        "out.jpg": "it is a link that leads out of the folder",
        "outside": "it is a link that leads out of the folder",
        "loop.jpg": "it is a link that leads nowhere: Too many levels of symbolic links",
        "gone.jpg": "it is a link that leads nowhere: No such file or directory",
        "disguised.jpg": "it is a link to a file that is not judged",
        "pipe.jpg": "it is a named pipe, not a file",
        "s.jpg": "it is a socket, not a file",
    }


def test_a_tree_that_is_too_deep_is_told(uploads: Path) -> None:
    with deep(uploads / "deep", "d" * 200, 24):
        (left,) = [item for item in walk(Wanted(uploads)) if isinstance(item, Left)]
    assert left.reason == "the folder cannot be read: File name too long"
    assert [item.reason for item in walk(Wanted(uploads / "gone"))] == [  # type: ignore[union-attr]
        "the folder cannot be read: No such file or directory"
    ]


def test_names_do_not_save_an_upload(triton: Fake, uploads: Path) -> None:
    """From being judged once it is left alone; until then, one look at everything says that they were not."""
    names = {".hidden.png", ".dir/a.png", "album.tmp/a.png", "a.png.part", "b.png~", ".c.png.Xy12Zw"}
    for name in names:
        (uploads / name).parent.mkdir(exist_ok=True)
        (uploads / name).write_bytes(b"dog")
    waiting = moderate(uploads, triton[1])
    assert waiting.returncode == 6
    assert waiting.stdout.count("its name looks unfinished") == len(names)
    assert files(uploads) == names
    assert moderate(uploads, triton[1], "--abandon", "0.3").returncode == 13
    assert files(uploads) == set()
    assert files(uploads.parent / "quarantine") == names


def test_what_is_left_is_told_each_time_and_recorded_once(triton: Fake, uploads: Path) -> None:
    (uploads / "out.jpg").symlink_to("/etc/hostname")
    os.mkfifo(uploads / "pipe.jpg")
    for _ in range(2):
        done = moderate(uploads, triton[1], "--release", uploads.parent / "public")
        assert done.returncode == 6
        assert done.stdout.count("leads out of the folder") == done.stdout.count("a named pipe") == 1
    assert [(record["verdict"], record["action"]) for record in audit(uploads)] == [("unjudged", "leave")] * 2
    assert not (uploads.parent / "public").exists()


def test_overwritten_in_place_with_its_time_set_back(triton: Fake, uploads: Path) -> None:
    path = uploads / "a.jpg"
    path.write_bytes(b"cat")
    os.utime(path, (0, 0))
    assert moderate(uploads, triton[1]).returncode == 0
    with path.open("r+b") as file:
        file.write(b"dog")
    os.utime(path, (0, 0))
    assert moderate(uploads, triton[1]).returncode == 13
    assert files(uploads) == set()


def test_older_books_are_gone_on_with(triton: Fake, uploads: Path) -> None:
    (uploads.parent / "quarantine").mkdir()
    with closing(sqlite3.connect(uploads.parent / "quarantine" / ".moderate.sqlite")) as books:
        books.execute("CREATE TABLE judged (path BLOB PRIMARY KEY, inode INTEGER, size INTEGER, mtime_ns INTEGER)")
        books.execute("CREATE TABLE moves (id TEXT PRIMARY KEY, source BLOB, target BLOB, record TEXT)")
        source, target = (os.fsencode(path) for path in (uploads / "b.jpg", uploads.parent / "quarantine" / "b.jpg"))
        record = json.dumps(
            {"sha256": "", "path": "b.jpg", "verdict": "unjudged", "reason": "large", "action": "quarantine"}
        )
        books.execute("INSERT INTO moves VALUES ('1', ?, ?, ?)", (source, target, record))
        books.commit()
    (uploads / ".moderate-1").write_bytes(b"cut off on its way")
    (uploads / "a.jpg").write_bytes(b"dog")
    assert moderate(uploads, triton[1]).returncode == 13
    assert files(uploads.parent / "quarantine") == {"a.jpg", "b.jpg"}


def overwritten(path: Path) -> None:
    path.write_bytes(b"cat")
    os.utime(path, (0, 0))


def linked(path: Path) -> None:
    path.rename(path.with_name("kept.jpg"))
    path.symlink_to("kept.jpg")


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("swap", [overwritten, linked, a_pipe, Path.unlink])
def test_what_is_judged_is_what_was_seen(swap: Callable[[Path], None], triton: Fake, uploads: Path) -> None:
    """Whoever writes to the folder may put anything under a name between a look at it and its being read."""
    path = uploads / "a.jpg"
    path.write_bytes(b"dog")
    os.utime(path, (0, 0))
    found = look(path)
    assert found is not None
    until(lambda: is_complete(found, 0))
    with Client(triton[1]) as client:
        judge = Judge(client, None, ["cat"], 0.5)
        judge.prepare()
        assert judge.judge(found).kind in ("clean", "forbidden")
        swap(path)
        assert judge.judge(found).kind == "changed"


def test_formats_that_the_server_cannot_read_are_named(triton: Fake, uploads: Path) -> None:
    pictures = {
        "a.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1",
        "b.png": b"\xff\x0a\xfa\x1f",
        "c.svg": b'<?xml version="1.0"?>\n<!-- x -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
        "d.svgz": gzip.compress(b"<svg/>"),
        "e.avif": b"\0\0\0\x1cftypavif\0\0\0\0",
    }
    for name, content in pictures.items():
        (uploads / name).write_bytes(content)
    triton[0].behave = refuse_unless_gray
    assert moderate(uploads, triton[1]).returncode == 6
    assert files(uploads.parent / "quarantine") == set(pictures)
    reasons = {Path(record["path"]).name: record["reason"] for record in audit(uploads)}
    assert [reasons[name].partition(",")[0] for name in pictures] == ["HEIC", "JPEG XL", "SVG", "SVG", "AVIF"]


def refuse_unless_gray(_: int, request: Any, context: grpc.ServicerContext) -> None:
    if not request.raw_input_contents[0][4:].startswith(b"\x89PNG"):
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not an image in a known format")


def test_no_name_keeps_a_forbidden_file_from_the_quarantine(triton: Fake, uploads: Path) -> None:
    """Neither the books' own, nor one below what was a file before, nor one that is as long as names can be."""
    quarantine, longest = uploads.parent / "quarantine", "x" * 251 + ".jpg"
    booked = ".moderate" + "x" * 242 + ".jpg"
    options = [triton[1], "--every-file", "--abandon", "0"]
    for content, names in {
        b"dog 1": ("audit.jsonl", ".moderate.sqlite-wal", "a.jpg", longest, booked),
        b"dog 2": ("a.jpg/b.jpg", longest),
    }.items():
        for name in names:
            (uploads / name).parent.mkdir(exist_ok=True)
            (uploads / name).write_bytes(content)
        assert moderate(uploads, *options).returncode == 13
    assert files(uploads) == set()
    assert len(audit(uploads)) == 7
    found = files(quarantine)
    assert {"upload-audit.jsonl", "upload-.moderate.sqlite-wal", "a.jpg", "a-1.jpg/b.jpg", longest} < found
    assert ("upload-" + booked)[:251] + ".jpg" in found
    assert len(found) == 7


@pytest.mark.parametrize("depth", [1, 15, 18])
def test_places_are_never_too_long_to_be_used(depth: int, tmp_path: Path) -> None:
    relative = Path(*["d" * 250] * depth, "a.jpg")
    target = places.place(tmp_path, relative)
    assert len(os.fsencode(target)) <= 4095 - places.NUMBERS
    assert target.suffix == ".jpg"
    assert (target == tmp_path / relative) == (depth < 16)


@pytest.mark.parametrize("name", ["x" * 252 + ".jpg", "x" * 256 + "/a.jpg"])
def test_name_that_the_target_does_not_take(name: str, tmp_path: Path) -> None:
    """File systems have rules of their own, which are known by trying."""
    source, told = tmp_path / "a.jpg", []
    source.write_bytes(b"dog")
    found, journal = look(source), Journal(tmp_path / "books")
    assert found is not None
    otherwise = places.spare(tmp_path / "q", Path(name))
    assert moving.move(journal, found, tmp_path / "q" / name, "{}", told.append, otherwise)
    assert journal.unfinished() == []
    journal.close()
    assert told[0].target == otherwise
    assert otherwise.read_bytes() == b"dog"
    assert not source.exists()


ODD_NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda name: not set(name) & set(b"\0/") and name not in (b".", b"..")
)


@given(name=ODD_NAMES)
def test_any_name_can_be_moved(name: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")
    source = folder / os.fsdecode(name)
    source.write_bytes(b"x")
    (found,) = walk(Wanted(folder, every_file=True))
    assert isinstance(found, Found)
    target = places.place(folder / "q", found.path.relative_to(folder))
    assert not places.BOOKS.fullmatch(target.name)
    assert len(os.fsencode(target.name)) <= 255
    assert found.path == source
    for other in islice(places.names(source), 1, 12):
        assert len(os.fsencode(other.name)) <= 255
        assert other.parent == folder
    assert json.loads(json_line({"path": str(source)})) == json.loads(json.dumps({"path": str(source)}))
    assert printable(str(source)).isprintable()


def test_complete_means_left_alone_and_not_open(uploads: Path) -> None:
    path = uploads / "a.jpg"
    path.write_bytes(b"x")
    found = look(path)
    assert found is not None
    assert not is_complete(found, settle=60)
    os.utime(path, (0, 0))  # which says nothing about when it was written
    found = look(path)
    assert found is not None
    assert not is_complete(found, settle=60)
    until(lambda: is_complete(found, settle=0))
    with path.open("ab"):
        assert not is_complete(found, settle=0)


def test_writer_that_comes_while_it_is_asked_for_ends_nothing(uploads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, ask, came, signals = uploads / "a.jpg", fcntl.fcntl, [], []
    path.write_bytes(b"x")
    found = look(path)
    assert found is not None
    until(lambda: is_complete(found, settle=0))

    def asked(descriptor: int, what: int, value: int) -> int:
        answer = ask(descriptor, what, value)
        if value == fcntl.F_RDLCK:
            with pytest.raises(BlockingIOError):  # it has to wait for the lease
                os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            came.append(path)
        return answer

    monkeypatch.setattr(fcntl, "fcntl", asked)
    before = signal.signal(signal.SIGIO, lambda *_: signals.append(_))
    try:
        is_complete(found, settle=0)
    finally:
        signal.signal(signal.SIGIO, before)
    assert came == [path]
    assert signals == []  # SIGIO ends a process that has no handler
    assert signal.getsignal(signal.SIGURG) == signal.SIG_DFL  # which ignores it


def test_touching_a_file_again_and_again_does_not_save_it(uploads: Path) -> None:
    path, patience = uploads / "a.jpg", Patience(0.2)

    def is_over_though_touched() -> bool:
        os.utime(path)
        found = look(path)
        return found is not None and patience.is_over(found, 60)

    path.write_bytes(b"dog")
    assert not is_over_though_touched()
    until(is_over_though_touched)
    path.write_bytes(b"a dog")  # which goes on
    assert not is_over_though_touched()
    with path.open("ab"):
        assert is_over_though_touched() is False
    path.unlink()
    patience.forget_gone()


def test_touching_a_file_while_it_is_judged_and_moved_does_not_save_it(triton: Fake, uploads: Path) -> None:
    path, quarantine = uploads / "a.jpg", uploads.parent / "q"
    path.write_bytes(b"dog")
    with Client(triton[1]) as client:
        judge = Judge(client, None, ["dog: large"], 0.5)
        judge.prepare()
        found = look(path)
        assert found is not None
        os.utime(path)
        assert judge.judge(found).kind == "changed"
        verdict = judge.judge(found, touched=True)
        assert verdict.kind == "forbidden"
        os.utime(path)
        journal = Journal(uploads.parent / "books")
        record = json.dumps({"sha256": verdict.sha256})
        assert moving.move(journal, found, quarantine / "a.jpg", record, lambda _: None)
        journal.close()
    assert files(quarantine) == {"a.jpg"}


def test_touched_at_each_reading_it_is_judged_in_the_end(
    triton: Fake, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, content, last = uploads / "a.jpg", opening.content, time.monotonic() + 10
    path.write_bytes(b"dog")

    def touched(descriptor: int, name: str) -> bytes:
        os.utime(path)
        if time.monotonic() > last:
            path.unlink()  # of a file that nobody judges, the test is to end, too
        return content(descriptor, name)

    monkeypatch.setattr(opening, "content", touched)
    orders = Orders(uploads, uploads.parent / "q", ("dog: large",), settle=0.01, abandon=0.3, once=True, interval=0.01)
    with Client(triton[1]) as client:
        assert Moderator(client, orders, lambda _: None, print).run().forbidden == 1
    assert files(orders.quarantine) == {"a.jpg"}


def test_server_that_is_away_lets_nothing_through(uploads: Path, watching: Any) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    (uploads / "a.jpg").write_bytes(b"dog")
    process = watching(f"127.0.0.1:{port}", "--retries", "0", "--fail-open", "--release", uploads.parent / "public")
    assert "waiting for the server" in process.stderr.readline()
    assert files(uploads) == {"a.jpg"}
    with serving(port=port) as (servicer, _):
        judge_by_content(servicer)
        assert eventually(lambda: files(uploads) == set())
    (uploads / "b.jpg").write_bytes(b"dog")
    (uploads / "c.jpg").write_bytes(b"cat")
    time.sleep(1.5)
    heard = (line for line in process.stderr if "waiting for the server" in line)
    assert next(heard)
    assert files(uploads) == {"b.jpg", "c.jpg"}
    with serving(port=port) as (servicer, _):
        judge_by_content(servicer)
        assert eventually(lambda: files(uploads) == set())
    assert files(uploads.parent / "quarantine") == {"a.jpg", "b.jpg"}
    assert files(uploads.parent / "public") == {"c.jpg"}


def test_image_that_keeps_failing_the_server_does_not_hold_up_the_rest(triton: Fake, uploads: Path) -> None:
    def behave(_: int, request: Any, context: grpc.ServicerContext) -> None:
        if b"poison" in request.raw_input_contents[0]:
            context.abort(grpc.StatusCode.INTERNAL, "out of memory")

    triton[0].behave = behave
    (uploads / "a.jpg").write_bytes(b"poison")
    (uploads / "b.jpg").write_bytes(b"dog")
    assert moderate(uploads, triton[1]).returncode == 13
    assert files(uploads.parent / "quarantine") == {"a.jpg", "b.jpg"}
    assert "failed 3 times" in audit(uploads)[-1]["reason"] + audit(uploads)[0]["reason"]


def test_hook_is_told_and_cannot_hurt(triton: Fake, uploads: Path, tmp_path: Path) -> None:
    (uploads / "a.jpg").write_bytes(b"dog")
    (uploads / "b.jpg").write_bytes(b"cat")
    hook = tmp_path / "hook.py"
    hook.write_text(f"import sys; open({str(tmp_path / 'told')!r}, 'a').write(sys.stdin.read()); sys.exit(3)")
    done = moderate(uploads, triton[1], "--hook", f"{sys.executable} {hook}")
    assert done.returncode == 13
    assert "the hook failed" in done.stderr
    assert "ended with 3" in done.stderr
    (told,) = (tmp_path / "told").read_text().splitlines()
    assert json.loads(told)["verdict"] == "forbidden"


def test_names_of_any_bytes(triton: Fake, uploads: Path) -> None:
    for name in (b"caf\xe9.jpg", b"new\nline.jpg", b'quo"te.jpg'):
        (uploads / os.fsdecode(name)).write_bytes(b"dog")
    assert moderate(uploads, triton[1]).returncode == 13
    assert len(files(uploads.parent / "quarantine")) == 3
    assert moderate(uploads, triton[1], "--json").returncode == 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--forbid", "kat"], 6, "did you mean 'cat'"),
        (["--forbid", "2"], 6, "the model has no class '2'"),
        (["--model", "cars"], 5, "cars"),
        (["--release", "quarantine"], 6, "two folders"),
        (["--hook", '"'], 2, "cannot be read"),
    ],
)
def test_what_users_do_wrong(options: list[str], code: int, message: str, triton: Fake, uploads: Path) -> None:
    (uploads / "a.jpg").write_bytes(b"cat")
    options = [str(uploads.parent / option) if option == "quarantine" else option for option in options]
    done = moderate(uploads, triton[1], *options)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert files(uploads) == {"a.jpg"}


def test_quarantine_above_the_uploads_is_refused(triton: Fake, uploads: Path) -> None:
    done = moderate(uploads, triton[1], "--quarantine", uploads.parent)
    assert done.returncode == 6
    assert "holds" in done.stderr


@pytest.mark.parametrize("spelling", ["link/uploads/q", "uploads/../uploads/q", "uploads/q"])
@pytest.mark.parametrize("root", ["uploads", "link/uploads"])
def test_quarantine_below_the_uploads_is_not_entered(root: str, spelling: str, triton: Fake, uploads: Path) -> None:
    """However it is spelled."""
    (uploads / "a.jpg").write_bytes(b"dog")
    (uploads.parent / "link").symlink_to(uploads.parent)
    orders = Orders(uploads.parent / root, uploads.parent / spelling, ("dog: large",), once=True, settle=0)
    with Client(triton[1]) as client:
        for forbidden in (1, 0):
            assert Moderator(client, orders, lambda _: None, print).run().forbidden == forbidden
    assert files(uploads / "q") == {"a.jpg"}


def test_one_folder_of_two_names_is_one(triton: Fake, uploads: Path) -> None:
    (uploads.parent / "link").symlink_to(uploads.parent)
    with Client(triton[1]) as client:
        for quarantine, release in (("q", "link/q"), ("link", "public")):
            paths = [uploads.parent / name for name in (quarantine, release)]
            orders = Orders(uploads, paths[0], ("cat",), release=paths[1], once=True)
            with pytest.raises(InvalidInput, match=r"two folders|holds"):
                Moderator(client, orders, lambda _: None, print).run()


@pytest.mark.parametrize("name", ["nowhere", "x" * 300])
def test_folder_that_is_not_there_is_refused(name: str, triton: Fake, uploads: Path) -> None:
    done = moderate(uploads / name, triton[1])
    assert done.returncode == 6
    assert "is no folder" in done.stderr


def test_one_watcher_a_quarantine(triton: Fake, uploads: Path) -> None:
    (uploads.parent / "quarantine").mkdir()
    journal = Journal(uploads.parent / "quarantine" / ".moderate.sqlite")
    done = moderate(uploads, triton[1])
    journal.close()
    assert done.returncode == 11
    assert "another process" in done.stderr


def test_killed_at_any_moment_it_loses_nothing(triton: Fake, uploads: Path) -> None:
    """Kill -9 again and again; in the end each forbidden file is in the quarantine once, and all is recorded."""
    contents = {f"{i:02}.jpg": b"dog %d" % i if i % 2 else b"cat %d" % i for i in range(24)}
    for name, content in contents.items():
        (uploads / name).write_bytes(content)
        os.utime(uploads / name, (0, 0))
    quarantine, chance = uploads.parent / "quarantine", random.Random(0)
    kills = 0
    for _ in range(6):
        with started(command(uploads, triton[1], "--once")) as process:
            records = len(audit(uploads)) if (quarantine / "audit.jsonl").exists() else 0
            eventually(lambda: process.poll() is not None or _lines(quarantine) > records)  # noqa: B023
            time.sleep(chance.random() * 0.02)
            process.send_signal(signal.SIGKILL)
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 1  # a fast machine is done after a few
    moderate(uploads, triton[1])
    assert files(uploads) == {name for name, content in contents.items() if content.startswith(b"cat")}
    assert files(quarantine) == {name for name, content in contents.items() if content.startswith(b"dog")}
    assert all((quarantine / name).read_bytes() == contents[name] for name in files(quarantine))
    assert {record["path"] for record in audit(uploads)} == {str(uploads / name) for name in contents}


def test_a_record_that_cannot_be_written_is_made_up_for(triton: Fake, uploads: Path) -> None:
    (uploads / "a.jpg").write_bytes(b"cat")
    os.utime(uploads / "a.jpg", (0, 0))
    log = uploads.parent / "quarantine" / "audit.jsonl"
    log.mkdir(parents=True)
    refused = moderate(uploads, triton[1])
    assert refused.returncode == 11
    assert "the record is made at the next start" in refused.stderr
    log.rmdir()
    moderate(uploads, triton[1])
    assert [record["path"] for record in audit(uploads)] == [str(uploads / "a.jpg")]


def _lines(quarantine: Path) -> int:
    log = quarantine / "audit.jsonl"
    return len(log.read_bytes().splitlines()) if log.exists() else 0


class Crash(BaseException):
    """As if the process ended here."""


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same file system", "another"])
@pytest.mark.parametrize("point", range(1, 40))
def test_crash_at_every_step_of_a_move(point: int, elsewhere: bool, tmp_path: Path) -> None:
    """A crash after the n-th call of the system leaves the file somewhere, and the next start finishes the move."""
    target = (Path("/dev/shm") if elsewhere else tmp_path) / f"moved-{os.getpid()}-{point}"
    if elsewhere and Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one file system here")
    source = tmp_path / "a.jpg"
    source.write_bytes(b"content")
    found = look(source)
    assert found is not None
    target.mkdir()
    try:
        journal, told = Journal(tmp_path / "books"), []
        record = json.dumps({"sha256": moving.digest(source)})
        with crashing_at(point):
            moving.move(journal, found, target / "a.jpg", record, told.append)
        journal.close()
        journal = Journal(tmp_path / "books")
        moving.recover(journal, told.append)
        assert journal.unfinished() == []
        journal.close()
        moved = [path for path in target.iterdir() if not path.name.startswith(".moderate")]
        here = [path for path in tmp_path.iterdir() if path.name == "a.jpg"]
        assert [path.read_bytes() for path in [*moved, *here]] == [b"content"]
        assert not list(tmp_path.glob(".moderate-*"))
        assert bool(told) == bool(moved)
    finally:
        for path in target.iterdir():
            path.unlink()
        target.rmdir()


class crashing_at:  # noqa: N801  # reads as a function
    """Raises Crash before the n-th audited call of the system that changes files."""

    events = ("os.rename", "os.link", "os.remove", "open", "shutil.copyfile", "os.mkdir")
    active: "crashing_at | None" = None

    def __init__(self, point: int) -> None:
        self.left = point

    def __enter__(self) -> None:
        type(self).active = self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        type(self).active = None
        return kind is Crash

    @classmethod
    def watch(cls, event: str, _: Any) -> None:
        if cls.active and event in cls.events:
            cls.active.left -= 1
            if cls.active.left == 0:
                raise Crash


sys.addaudithook(crashing_at.watch)


def test_upload_that_is_replaced_while_it_was_judged_stays(tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    source.write_bytes(b"judged")
    found = look(source)
    assert found is not None
    source.unlink()
    source.write_bytes(b"another upload")
    journal = Journal(tmp_path / "books")
    assert not moving.move(journal, found, tmp_path / "q" / "a.jpg", "{}", lambda _: None)
    assert not moving.move(
        journal, Found(tmp_path / "gone.jpg", 1, 1, 1, 1), tmp_path / "q" / "b.jpg", "{}", lambda _: None
    )
    journal.close()
    assert source.read_bytes() == b"another upload"
    assert list((tmp_path / "q").iterdir()) == []


def test_upload_whose_content_was_replaced_while_it_was_judged_stays(tmp_path: Path) -> None:
    """Though its size and its time are as they were, before the move as after a crash in it."""
    source, released = tmp_path / "a.jpg", tmp_path / "public" / "a.jpg"
    source.write_bytes(b"cat")
    os.utime(source, (0, 0))
    found, record = look(source), json.dumps({"sha256": moving.digest(source)})
    assert found is not None
    source.write_bytes(b"dog")
    os.utime(source, (0, 0))
    journal = Journal(tmp_path / "books")
    assert not moving.move(journal, found, released, record, lambda _: None)
    journal.begin(plan := Move("1", source, released, record))
    source.rename(plan.taken)
    moving.recover(journal, lambda _: None)
    assert journal.unfinished() == []
    journal.close()
    assert source.read_bytes() == b"dog"
    assert not released.exists()


@pytest.mark.parametrize("swap", [lambda path: path.mkdir(), lambda path: path.symlink_to("/etc"), os.mkfifo])
def test_what_came_in_the_place_of_an_upload_stays_what_it_is(swap: Callable[[Path], None], tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    source.write_bytes(b"x")
    found = look(source)
    assert found is not None
    source.unlink()
    swap(source)
    kind = source.lstat().st_mode
    journal = Journal(tmp_path / "books")
    assert not moving.move(journal, found, tmp_path / "q" / "a.jpg", "{}", lambda _: None)
    assert journal.unfinished() == []
    journal.close()
    assert source.lstat().st_mode == kind
    assert not list(tmp_path.glob(".moderate-*"))


def test_full_target_leaves_the_file_where_it_was(tmp_path: Path) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "file"
    source.write_bytes(b"x")
    target.write_bytes(b"not a folder")
    found = look(source)
    assert found is not None
    journal = Journal(tmp_path / "books")
    with pytest.raises(Exception, match="file"):
        moving.move(journal, found, target / "a.jpg", "{}", lambda _: None)
    assert journal.unfinished() == []
    journal.close()
    assert source.read_bytes() == b"x"


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same file system", "another"])
def test_record_of_what_nobody_read_survives_a_crash(elsewhere: bool, tmp_path: Path) -> None:
    """One that was too large has no digest; it is there, and only that was not recorded."""
    source, target = tmp_path / "a.jpg", (tmp_path / "q" / "a.jpg")
    source.write_bytes(b"large")
    if elsewhere:
        os.utime(source, ns=(10**18, 10**18 + 123456789))
    found, journal, told = look(source), Journal(tmp_path / "books"), []
    assert found is not None

    def crash(_: Move) -> None:
        raise Crash

    with pytest.raises(Crash):
        moving.move(journal, found, target, json.dumps({"sha256": "", "action": "quarantine"}), crash)
    if elsewhere:  # as what was copied: the time stays, the inode does not
        shutil.copy2(target, tmp_path / "copy")
        (tmp_path / "copy").replace(target)
    moving.recover(journal, told.append)
    assert [move.target for move in told] == [target]
    assert journal.unfinished() == []
    journal.close()


def test_uploads_of_one_name_and_size_are_not_compared_with_all_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, read = tmp_path / "a.jpg", tmp_path / "q" / "a.jpg", []
    digest = moving.digest
    monkeypatch.setattr(moving, "digest", lambda path: read.append(path) or digest(path))
    journal = Journal(tmp_path / "books")
    for _ in range(4):
        source.write_bytes(b"dog")
        found = look(source)
        assert found is not None
        assert moving.move(journal, found, target, json.dumps({"sha256": digest(source)}), lambda _: None)
    journal.close()
    assert len(read) == 4  # each once, whether it is what was judged
    assert len(list(target.parent.iterdir())) == 4


def test_recovery_claims_no_file_of_others(tmp_path: Path) -> None:
    """A move that had not begun, whose source somebody took away, and whose target was there before."""
    (tmp_path / "target.jpg").write_bytes(b"of somebody else")
    journal, told = Journal(tmp_path / "books"), []
    journal.begin(Move("1", tmp_path / "gone.jpg", tmp_path / "target.jpg", json.dumps({"sha256": "0"})))
    moving.recover(journal, told.append)
    assert told == []
    assert journal.unfinished() == []
    journal.close()


@given(
    given_words=st.lists(st.text("ab,\" '", min_size=1, max_size=6).map(str.strip).filter(bool), min_size=1, max_size=4)
)
def test_labels_may_hold_commas_and_quotes(given_words: list[str]) -> None:
    written = ",".join('"' + word.replace('"', '""') + '"' for word in given_words)
    assert words([written]) == given_words


@settings(max_examples=50)
@given(probabilities=st.lists(st.floats(0, 1), min_size=3, max_size=3), threshold=st.floats(0, 1))
def test_forbidden_classes_count_together(probabilities: list[float], threshold: float) -> None:
    rules = resolve(["0", "Dog"], {0: "cat", 1: "dog", 2: "car"}, threshold)
    assert rules.score(probabilities) == probabilities[0] + probabilities[1]
    assert rules.worst(probabilities) in (0, 1)


def test_labels_win_over_numbers() -> None:
    assert dict(resolve(["7"], {0: "7", 7: "x"}, 0.5).classes) == {0: "7"}
    with pytest.raises(InvalidInput, match="no class '9'"):
        resolve(["9"], LABELS, 0.5)


def test_real_server(server: Endpoints, uploads: Path) -> None:
    for photo in SAMPLES.glob("*.jpg"):
        (uploads / photo.name).write_bytes(photo.read_bytes())
        os.utime(uploads / photo.name, (0, 0))
    options = ["--model", "onnx_model", "--forbid", "cat,dog,other: thing", "--threshold", "0.99"]
    arguments = command(uploads, server.grpc, "--once")
    arguments[arguments.index("dog: large")] = "cat"
    done = subprocess.run([*arguments, *options], capture_output=True, text=True, timeout=120)
    assert done.returncode == 13, done.stderr
    assert files(uploads) == set()  # all classes together are certain
