"""repo-client scan-log: the images in an access log."""

import csv
import gzip
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fake_triton import FakeTriton
from hypothesis import given
from hypothesis import strategies as st
from processes import started

from builder.pictures import SAMPLES
from builder.types import Endpoints
from client import InvalidInput, UnreadableFile
from client.access_log.entries import Entry, parse
from client.access_log.fetching import Folder, Site
from client.access_log.reading import followed
from client.access_log.selecting import Asked, Selection, image_of
from client.signals import Stop

Fake = tuple[FakeTriton, str]


def line(target: str, client: str = "203.0.113.5", method: str = "GET", status: int = 200) -> str:
    return f'{client} - - [10/Oct/2026:13:55:36 +0000] "{method} {target} HTTP/1.1" {status} 12 "-" "curl/8.0"\n'


SAME = Entry("203.0.113.5", "PUT", "/up/a.jpg?x=1", 201, "10/Oct/2026:13:55:36 +0000")
CADDY = {"ts": SAME.time, "request": {"remote_ip": SAME.client, "method": "PUT", "uri": SAME.target}, "status": 201}
TRAEFIK = {"ClientHost": SAME.client, "RequestMethod": "PUT", "RequestPath": SAME.target, "DownstreamStatus": 201}
FORMATS = {
    "combined": line(SAME.target, method="PUT", status=201),
    "common": f'{SAME.client} - - [{SAME.time}] "PUT {SAME.target} HTTP/1.1" 201 -',
    "a user with a space": f'{SAME.client} - bob smith [{SAME.time}] "PUT {SAME.target} HTTP/2.0" 201 5 "-" "x"',
    "a virtual host": f'example.org:443 {SAME.client} - - [{SAME.time}] "PUT {SAME.target} HTTP/1.1" 201 5 "-" "x"',
    "quotes in the agent": f'{SAME.client} - - [{SAME.time}] "PUT {SAME.target} HTTP/1.1" 201 5 "-" "a \\"b\\" [c]"',
    "more fields": f'{SAME.client} - - [{SAME.time}] "PUT {SAME.target} HTTP/1.1" 201 5 "-" "x" "10.0.0.1" rt=0.1',
    "nginx JSON": json.dumps(
        {
            **{"remote_addr": SAME.client, "time_local": SAME.time, "request": f"PUT {SAME.target} HTTP/1.1"},
            "status": "201",
        }
    ),
    "split JSON": json.dumps(
        {
            **{"remote_addr": SAME.client, "time_iso8601": SAME.time, "request_method": "PUT"},
            **{"request_uri": SAME.target, "status": 201},
        }
    ),
    "Caddy": json.dumps(CADDY),
    "Traefik": json.dumps(TRAEFIK | {"StartUTC": SAME.time}),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name: str) -> None:
    assert parse(FORMATS[name]) == SAME


@pytest.mark.parametrize(
    "text", ["", "garbage", '1 - - [x] "-" 400 0', "{}", '{"status": 200}', "[1]", '{"status": 1e999}']
)
def test_what_is_no_request(text: str) -> None:
    assert parse(text) is None


def test_escapes() -> None:
    assert parse(line(r"/a\x22b\x5C.jpg")) == Entry(SAME.client, "GET", '/a"b\\.jpg', 200, SAME.time)


@given(text=st.text(max_size=300) | st.binary(max_size=300).map(lambda b: b.decode("utf-8", "surrogateescape")))
def test_no_line_is_too_strange(text: str) -> None:
    for candidate in (text, line(text), json.dumps({"status": 200, "uri": text}), f'x - - [y] "{text}" 200 1'):
        entry = parse(candidate)
        if entry:
            image_of(entry, Selection())


TARGETS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters='"\\ '), min_size=1)


@given(target=TARGETS, status=st.integers(100, 599), method=st.sampled_from(["GET", "PUT", "POST"]))
def test_what_was_written_is_read(target: str, status: int, method: str) -> None:
    assert parse(line(target, method=method, status=status)) == Entry(SAME.client, method, target, status, SAME.time)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/up/a.jpg", Asked("/up/a.jpg")),
        ("/up/a.JPEG?size=9", Asked("/up/a.JPEG")),
        ("/up/caf%C3%A9.png", Asked("/up/café.png")),
        ("http://evil.example/up/a.jpg", Asked("/up/a.jpg", "evil.example")),
        ("//evil.example/a.jpg", Asked("//evil.example/a.jpg")),
        ("/up/a.html", None),
        ("/up/../../etc/a.jpg", None),
        ("/up/%2e%2e/%2e%2e/etc/a.jpg", None),
        ("/up/a%00.jpg", None),
        ("/up/a%0a.jpg", None),
        ("/up/..%5c..%5ca.jpg", None),
        ("/up/%ff.jpg", None),
        ("a.jpg", None),
        ("http://[bad/a.jpg", None),
        ("*", None),
    ],
)
def test_paths_that_stay_in_the_site(target: str, expected: Asked | None) -> None:
    assert image_of(Entry("c", "GET", target, 200), Selection()) == expected


def test_selection() -> None:
    uploads = Selection(frozenset({"PUT", "POST"}), "/up/")
    wanted = [("PUT", "/up/a.jpg", 201), ("GET", "/up/a.jpg", 200), ("PUT", "/b.jpg", 201), ("PUT", "/up/a.jpg", 403)]
    assert [bool(image_of(Entry("c", *request), uploads)) for request in wanted] == [True, False, False, False]


def test_nothing_outside_the_folder_is_read(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (site / "link.jpg").symlink_to("../secret.jpg")
    (site / "inner.jpg").symlink_to("a.jpg")
    (site / "a.jpg").write_bytes(b"fine")
    (site / "large.jpg").write_bytes(b"x" * 101)
    os.mkfifo(site / "pipe.jpg")
    (site / "folder.jpg").mkdir()
    store = Folder(site, 100)
    assert store.read(Asked("/a.jpg")) == store.read(Asked("/inner.jpg")) == store.read(Asked("//a.jpg")) == b"fine"
    for path, message in {
        "/link.jpg": "leads out",
        "/../secret.jpg": "leads out",
        "/large.jpg": "at most 100",
        "/pipe.jpg": "no regular file",
        "/folder.jpg": "no regular file",
        "/gone.jpg": "No such file",
    }.items():
        with pytest.raises(InvalidInput, match=message):
            store.read(Asked(path))


class Answers(BaseHTTPRequestHandler):
    """A web server with images, and with all that one should not follow."""

    asked: list[tuple[str, str]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append((self.headers["Host"], self.path))
        if "redirect" in self.path:
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/a.jpg")
            self.end_headers()
        elif "slow" in self.path:
            self.send_response(200)
            self.end_headers()
            for _ in range(50):
                self.wfile.write(b"x")
                time.sleep(0.05)
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * (500 if "large" in self.path else 50))

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def site() -> Iterator[str]:
    Answers.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(30)


def test_images_by_url(site: str) -> None:
    store = Site(f"http://{site}/base", [], 100, 0.5)
    assert store.read(Asked("/up/café 1.jpg")) == b"x" * 50
    assert Answers.asked == [(site, "/base/up/caf%C3%A9%201.jpg")]
    for path, message in {
        "/large.jpg": "more than 100 bytes",
        "/slow.jpg": r"within 0\.5 s",
        "/redirect.jpg": "answered 302",
    }.items():
        with pytest.raises(InvalidInput, match=message):
            store.read(Asked(path))
    assert len(Answers.asked) == 4  # the redirection was not followed


def test_hosts_of_a_hostile_log_are_not_asked(site: str) -> None:
    port = site.rpartition(":")[2]
    store = Site(f"http://{site}", [], 100, 2)
    for host in ("169.254.169.254", f"localhost:{port}", "127.0.0.1:1", f"{site}@evil.example", "evil.example", ":"):
        with pytest.raises(InvalidInput, match="not among the hosts"):
            store.read(Asked("/a.jpg", host))
    assert Answers.asked == []
    also = Site(f"http://{site}", [f"localhost:{port}"], 100, 2)
    assert also.read(Asked("/a.jpg", f"localhost:{port}"))


def test_names_are_resolved_once(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a name which changes its address after the check leads nowhere else."""
    host = f"localhost:{site.rpartition(':')[2]}"
    resolve, asked = socket.getaddrinfo, []

    def resolving(name: str, *more: Any, **options: Any) -> Any:
        asked.append(name)
        return resolve(name, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolving)
    store = Site(f"http://{host}", [], 100, 2)
    for _ in range(2):
        assert store.read(Asked("/a.jpg"))
    assert asked.count("localhost") == 1


@pytest.mark.parametrize("url", ["file:///etc", "ftp://x", "http://", "http://user@host", "x"])
def test_what_is_no_base_url(url: str) -> None:
    with pytest.raises(InvalidInput, match="is no base URL"):
        Site(url, [], 100, 1)


def test_server_that_is_not_there() -> None:
    store = Site("http://127.0.0.1:1", [], 100, 1)
    with pytest.raises(UnreadableFile, match=r"127\.0\.0\.1:1 cannot be asked"):
        store.read(Asked("/a.jpg"))


def scan_log(url: str, *arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "client.cli", "scan-log", "--url", url, *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "site" / "up").mkdir(parents=True)
    for name in ("a.jpg", "b.png"):
        (tmp_path / "site" / "up" / name).write_bytes(b"image " + name.encode())
    return tmp_path / "site"


LOG = (
    line("/up/a.jpg", "one", "PUT", 201)
    + line("/up/a.jpg", "two")
    + line("/up/a.jpg", "two")
    + line("/up/b.png", "two")
    + line("/up/gone.jpg", "three")
    + line("/index.html", "four")
    + line("/up/../../x.jpg", "five")
    + "garbage\n"
)


@pytest.mark.parametrize("kind", ["plain", "gzip", "stdin", "two"])
def test_report(kind: str, fake: Fake, root: Path, tmp_path: Path) -> None:
    servicer, url = fake
    log, text = tmp_path / "access.log", ""
    log.write_text(LOG)
    arguments: list[str | Path] = [log]
    if kind == "gzip":
        log.write_bytes(gzip.compress(LOG.encode()))
    elif kind == "stdin":
        arguments, text = ["-"], LOG
    elif kind == "two":
        log.write_text("".join(LOG.splitlines(keepends=True)[:3]))
        (tmp_path / "access.log.1").write_text("".join(LOG.splitlines(keepends=True)[3:]))
        arguments.append(tmp_path / "access.log.1")
    done = scan_log(url, *arguments, "--root", root, "--json", text=text)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["lines"], report["malformed"], report["images"], report["unreadable"]) == (8, 1, 3, 1)
    assert report["classes"] == [{"class": 1, "label": "dog: large", "images": 2, "requests": 4, "clients": 2}]
    assert [(row["client"], row["images"], row["requests"]) for row in report["clients"]] == [
        ("two", 2, 3),
        ("one", 1, 1),
        ("three", 1, 1),
    ]
    assert [(row["path"], row["label"], row["requests"], row["clients"]) for row in report["paths"]] == [
        ("/up/a.jpg", "dog: large", 3, 2),
        ("/up/b.png", "dog: large", 1, 1),
        ("/up/gone.jpg", "", 1, 1),
    ]
    assert report["paths"][2]["error"] == "No such file or directory"
    assert servicer.calls == 2  # each image once
    assert "1 of 8 lines could not be understood, 1 of 3 images" in done.stderr


def test_tables(fake: Fake, root: Path, tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text(LOG)
    done = scan_log(fake[1], tmp_path / "access.log", "--root", root, "--csv", "clients")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert rows[0] == {"client": "two", "images": "2", "requests": "3", "labels": "dog: large"}
    shown = scan_log(fake[1], tmp_path / "access.log", "--root", root).stdout
    assert all(title in shown for title in ("classes", "clients", "paths", "/up/b.png", "dog: large"))


def test_hostile_names_do_not_reach_the_terminal(fake: Fake, root: Path) -> None:
    done = scan_log(fake[1], "-", "--root", root, text=line("/up/a.jpg", "\x1b[31mred"))
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 6, "give --root DIR or --base-url URL"),
        (["--root", "nowhere"], 6, "nowhere is no folder"),
        (["--base-url", "http://x.invalid"], 6, "cannot be resolved"),
        (["--root", ".", "missing.log"], 7, "missing.log: No such file"),
        (["--root", ".", "-f", "more.log"], 6, "one log at a time"),
        (["--root", ".", "--csv", "all"], 2, "paths, classes or clients"),
    ],
)
def test_what_users_do_wrong(options: list[str], code: int, message: str, fake: Fake) -> None:
    done = scan_log(fake[1], "-", *options)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def following(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], str]]]:
    """A log that is followed, and a function that waits for its next line."""
    log = tmp_path / "access.log"
    log.write_text("first\n")
    stop = Stop()
    lines = followed(str(log), stop)

    def take() -> str:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            got = next(lines)
            if got is not None:
                return got
        raise AssertionError("no line came")

    yield log, take
    stop.set()
    assert [got for got in lines if got is not None] == []
    stop.close()


def test_growth_and_half_lines(following: Any) -> None:
    log, take = following
    assert take() == "first"
    with log.open("a") as file:
        file.write("sec")
        file.flush()
        threading.Timer(0.5, lambda: (file.write("ond\nthird\n"), file.flush())).start()
        assert [take(), take()] == ["second", "third"]


def test_rotation_by_renaming(following: Any) -> None:
    log, take = following
    assert take() == "first"
    log.rename(log.with_suffix(".1"))
    with log.with_suffix(".1").open("a") as file:
        file.write("late\n")  # by a server that has not reopened yet
    log.write_text("anew\n")
    assert [take(), take()] == ["late", "anew"]


def test_rotation_by_truncation(following: Any) -> None:
    log, take = following
    assert take() == "first"
    log.write_text("anew\n")  # shorter
    assert take() == "anew"


def test_following_reports_when_it_is_stopped(fake: Fake, root: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text(line("/up/a.jpg"))
    command = [sys.executable, "-m", "client.cli", "scan-log", "--url", fake[1], "--root", root, "-f", "--json", log]
    with started(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["path"] == "/up/a.jpg"
        with log.open("a") as file:
            file.write(line("/up/a.jpg") + line("/up/b.png"))
        assert json.loads(process.stdout.readline())["path"] == "/up/b.png"
        process.send_signal(signal.SIGINT)
        report = json.loads(process.stdout.read())
        assert process.wait(60) == 0
    assert (report["images"], report["paths"][0]["requests"]) == (2, 2)


def test_real_server(server: Endpoints) -> None:
    text = "".join(line(f"/{photo.name}") for photo in sorted(SAMPLES.glob("*.jpg")))
    done = scan_log(server.grpc, "-", "--root", SAMPLES, "--model", "onnx_model", "--json", text=text)
    assert json.loads(done.stdout)["images"] == 4
    assert json.loads(done.stdout)["unreadable"] == 0
