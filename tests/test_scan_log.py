"""repo-client scan-log: the images in an access log."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow
import pytest
import warm
from fake_triton import FakeTriton
from hypothesis import given
from hypothesis import strategies as st
from processes import started

from builder.data.images import SAMPLES
from builder.types import Endpoints
from client import InvalidInput, UnreadableFile
from client.access_log.addresses import address
from client.access_log.entries import Entry, as_bytes, parse
from client.access_log.fetching import Folder, Site
from client.access_log.reading import followed, lines
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
    "text", ["", "garbage", "{}", '{"status": 200}', "[1]", '{"status": 1e999}', '{"log": "garbage"}', '{"log": [1]}']
)
def test_what_is_no_line_of_an_access_log(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("request_line", ["-", "", r"\x16\x03\x01\x02", "hello"])
def test_a_line_about_what_was_no_request_is_understood(request_line: str) -> None:
    assert parse(f'192.0.2.1 - - [x] "{request_line}" 400 0 "-" "-"') == Entry("192.0.2.1", "", "", 400, "x")
    assert image_of(Entry("192.0.2.1", "", "", 200), Selection()) is None


RFC5424 = '<190>1 2026-11-26T10:00:00Z web1 nginx 12 - [a@1 b="c]\\"d"][e] \ufeff'
PREFIXES = [
    *("Nov 26 10:00:00 web1 nginx[123]: ", "<190>Nov  6 10:00:00 web1 nginx: ", "<190>Nov 26 10:00:00 nginx: "),
    *("<190>1 2026-11-26T10:00:00Z web1 nginx 12 - - ", f"123 {RFC5424}", "2026-11-26T10:00:00.1+00:00 web1 nginx: "),
    *(
        "Thu 2026-11-26 10:00:00 UTC web1 nginx.service[1]: ",
        "Do 2026-11-26 10:00:00 +03 web1 nginx[1]: ",
        "Mär 26 10:00:00 web1 nginx[1]: ",
        "Nov 26 2026 10:00:00 web1 nginx: ",
        "\x1b[36mnginx_1  |\x1b[0m ",
        "1732615200.123456 web1 nginx[1]: ",
    ),
    *("[ 1234.567890] web1 nginx[1]: ", "2026-11-26T10:00:00.0Z stdout F ", "2026-11-26T10:00:00.0Z stderr P "),
    *("[pod/web/nginx] ", "[pod/web/nginx] 2026-11-26T10:00:00.0Z ", "web-1  | ", "\x1b[36mweb.1.a@b | \x1b[0m"),
    *("www.example.org ", "_ ", "10.0.0.1:80 ", "[2001:db8::1]:443 ", "\ufeff"),
    "2026-11-26T10:00:00.0Z stdout F Nov 26 10:00:00 web1 nginx[1]: www.example.org:443 ",
]
CLIENTS = {
    "203.0.113.5": "203.0.113.5",
    "203.0.113.5:51234": "203.0.113.5",
    "2001:DB8:0::7": "2001:db8::7",
    "[2001:db8::7]": "2001:db8::7",
    "[2001:db8::7]:51234": "2001:db8::7",
    "fe80::1%eth0": "fe80::1%eth0",
    "::ffff:203.0.113.5": "203.0.113.5",
    "::1": "::1",
}


@pytest.mark.parametrize("prefix", ["", *PREFIXES])
def test_what_others_write_before_a_line_is_no_client(prefix: str) -> None:
    for client, expected in CLIENTS.items():
        assert parse(prefix + line(SAME.target, client, "PUT", 201)) == replace(SAME, client=expected), client
        with_user = prefix + line(SAME.target, client, "PUT", 201).replace("- -", "- bob smith")
        assert parse(with_user) == replace(SAME, client=expected), client


UNKNOWN = ["foo bar ", "web-1 nginx ", "foo - ", "12:", "access.log:", "access.log-", "10.0.0.5 ", "10.0.0.5, ", "a: "]


@pytest.mark.parametrize("prefix", [*UNKNOWN, "Nov 26 10:00:00 web1 "])
def test_a_prefix_that_is_not_known_is_not_taken_for_a_client(prefix: str) -> None:
    for client in CLIENTS:
        assert parse(prefix + line("/a.jpg", client)) is None, client


WORDS = st.lists(
    st.text(st.characters(codec="ascii", categories=["L", "N", "P"], exclude_characters='"\\'), min_size=1)
)


@given(words=WORDS, client=st.ip_addresses(v=4).map(str))
def test_whatever_is_before_a_line_no_word_of_it_becomes_the_client(words: list[str], client: str) -> None:
    """Unless it is an address itself, which the words are not allowed to hold here."""
    if not any(address(word) for word in words):
        entry = parse(" ".join([*words, line("/a.jpg", client)]))
        assert entry is None or entry.client == client


def wrapped(**fields: Any) -> str:
    return json.dumps(fields)


@pytest.mark.parametrize(
    "text",
    [
        wrapped(log=line(SAME.target, method="PUT", status=201), stream="stdout", time="2026-11-26T10:00:00Z"),
        wrapped(MESSAGE=line(SAME.target, method="PUT", status=201), PRIORITY="6"),
        wrapped(MESSAGE=list(line(SAME.target, method="PUT", status=201).encode() + b"\xff")),
        wrapped(log=wrapped(message=FORMATS["nginx JSON"])),
        "2026-11-26T10:00:00.0Z stdout F " + FORMATS["nginx JSON"],
    ],
)
def test_lines_in_json(text: str) -> None:
    assert parse(text) == SAME


def test_json_in_json_ends() -> None:
    text = line("/a.jpg")
    for _ in range(9):
        text = wrapped(log=text)
    assert parse(text) is None


def test_escapes() -> None:
    assert parse(line(r"/a\x22b\x5C.jpg")) == Entry(SAME.client, "GET", '/a"b\\.jpg', 200, SAME.time)
    assert parse(line(r"/a\"b\\x41\xe9.jpg")) == Entry(SAME.client, "GET", '/a"b\\x41\udce9.jpg', 200, SAME.time)


def nginx_escaped(raw: bytes) -> str:
    return "".join(f"\\x{byte:02X}" if byte < 32 or byte > 126 or byte in b'"\\' else chr(byte) for byte in raw)


def apache_escaped(raw: bytes) -> str:
    short = {8: r"\b", 9: r"\t", 10: r"\n", 11: r"\v", 13: r"\r", 34: r"\"", 92: r"\\"}
    return "".join(short.get(b) or (chr(b) if 32 <= b <= 126 else f"\\x{b:02x}") for b in raw)


RAW = st.binary(min_size=1, max_size=40).map(lambda raw: b"/" + raw)


@given(raw=RAW, escaped=st.sampled_from([nginx_escaped, apache_escaped]))
def test_any_request_is_read_back(raw: bytes, escaped: Callable[[bytes], str]) -> None:
    entry = parse(line(escaped(raw)))
    assert entry is not None
    assert as_bytes(entry.target) == raw


@given(raw=RAW)
def test_json_that_nginx_was_not_told_to_escape_for(raw: bytes) -> None:
    entry = parse(f'{{"remote_addr": "::1", "request": "PUT {nginx_escaped(raw)} HTTP/1.1", "status": 201}}')
    assert entry is not None
    assert as_bytes(entry.target) == raw or b"\\" in raw


NAMES = st.binary(min_size=1, max_size=30).filter(lambda name: not set(name) & set(b"\0/") and name.strip(b"."))


@given(name=NAMES, written=st.sampled_from([nginx_escaped, apache_escaped, quote]))
def test_any_name_of_a_file_is_found(name: bytes, written: Callable[[bytes], str]) -> None:
    """As a client sends it: by %HH, or, where it does not, as bytes that the log escapes."""
    name = name.translate(None, b"?#%") + b".png"
    entry = parse(line("/up/" + written(name)))
    assert entry is not None
    assert image_of(entry, Selection()) == Asked("/up/" + os.fsdecode(name))


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
        ("HTTP://Evil.Example:80//up/./b/../a.jpg?x", Asked("/up/a.jpg", "evil.example:80")),
        ("//evil.example/a.jpg", Asked("/evil.example/a.jpg")),
        ("/x//../up/%2e/a.jpg", Asked("/up/a.jpg")),
        ("/up%2Fa.jpg", Asked("/up/a.jpg")),
        ("/up/caf\udcc3%A9.png", Asked("/up/café.png")),
        ("/up/%ff.jpg", Asked("/up/\udcff.jpg")),
        ("/up/a%0a.jpg", Asked("/up/a\n.jpg")),
        ("/up/..%5c..%5ca.jpg", Asked("/up/..\\..\\a.jpg")),
        ("/up/.a.jpg.part", Asked("/up/.a.jpg.part")),
        ("/up/a.svg", Asked("/up/a.svg")),
        ("/up/\ud800.jpg", Asked("/up/?.jpg")),
        ("/up/a.html", None),
        ("/up/../../etc/a.jpg", None),
        ("/up/%2e%2e/%2e%2e/etc/a.jpg", None),
        ("/up/a%00.jpg", None),
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
    (site / "loop.jpg").symlink_to("loop.jpg")
    store = Folder(site, 100)
    assert store.read(Asked("/a.jpg")) == store.read(Asked("/inner.jpg")) == store.read(Asked("//a.jpg")) == b"fine"
    for path, message in {
        "/link.jpg": "leads out",
        "/../secret.jpg": "leads out",
        "/large.jpg": "at most 100",
        "/pipe.jpg": "a named pipe",
        "/folder.jpg": "a folder",
        "/loop.jpg": "Too many levels|a link",
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
    if not text:
        return warm.run("client.cli", "scan-log", "--url", url, *arguments)
    command = [sys.executable, "-m", "client.cli", "scan-log", "--url", url, *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "site" / "up").mkdir(parents=True)
    for name in ("a.jpg", "b.png"):
        (tmp_path / "site" / "up" / name).write_bytes(b"image " + name.encode())
    return tmp_path / "site"


def arrow(name: str) -> Callable[[bytes], bytes]:
    def pack(data: bytes) -> bytes:
        sink = pyarrow.BufferOutputStream()
        with pyarrow.CompressedOutputStream(sink, name) as stream:
            stream.write(data)
        return bytes(sink.getvalue())

    return pack


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


PACKED = {"gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zstd": arrow("zstd"), "lz4": arrow("lz4")}


@pytest.mark.parametrize("kind", ["plain", "stdin", "two", *PACKED])
def test_report(kind: str, fake: Fake, root: Path, tmp_path: Path) -> None:
    servicer, url = fake
    log, text = tmp_path / "access.log", ""
    log.write_text(LOG)
    arguments: list[str | Path] = [log]
    if kind in PACKED:
        log.write_bytes(PACKED[kind](LOG.encode()))
    elif kind == "stdin":
        arguments, text = ["-"], LOG
    elif kind == "two":
        log.write_text("".join(LOG.splitlines(keepends=True)[:3]))
        (tmp_path / "access.log.1").write_text("".join(LOG.splitlines(keepends=True)[3:]))
        arguments.append(tmp_path / "access.log.1")
    done = scan_log(url, *arguments, "--root", root, "--json", text=text)
    assert done.returncode == 6, done.stderr
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


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


@pytest.mark.parametrize("kind", PACKED)
def test_as_much_as_can_be_read_of_a_log_that_is_cut_off(kind: str, tmp_path: Path) -> None:
    """By content, whatever the name; whole lines alone."""
    chance = random.Random(0)
    whole = [f"{number} {chance.randbytes(30).hex()}\n" for number in range(30_000)]
    path = tmp_path / "access.log"
    path.write_bytes(cut(PACKED[kind]("".join(whole).encode())))
    read: list[str] = []
    with pytest.raises(UnreadableFile, match=r"access\.log: .* lines before that") as told:
        read.extend(lines(str(path)))
    assert f" {len(read)} lines" in str(told.value)
    assert read == whole[: len(read)]
    assert len(read) > 1000


@pytest.mark.parametrize("kind", ["gzip", "bz2", "xz"])
def test_damage_is_told(kind: str, tmp_path: Path) -> None:
    data = PACKED[kind](b"".join(b"line %d\n" % number for number in range(40_000)))
    (tmp_path / "access.log").write_bytes(cut(data) + bytes(20) + data[len(data) * 2 // 3 + 20 :])
    with pytest.raises(UnreadableFile, match=r"access\.log: .* lines before that"):
        list(lines(str(tmp_path / "access.log")))


def test_the_rest_of_a_line_without_end_is_no_line(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text("x" * (1024 * 1024 + 5) + line("/a.jpg") + line("/b.jpg"))
    assert [text[:20] for text in lines(str(tmp_path / "access.log"))] == ["x" * 20, line("/b.jpg")[:20]]


def test_a_log_that_cannot_be_read_costs_no_other(fake: Fake, root: Path, tmp_path: Path) -> None:
    (tmp_path / "1.log").write_text(line("/up/a.jpg"))
    (tmp_path / "2.log").write_bytes(gzip.compress(line("/up/b.png").encode() * 9)[:-9])
    (tmp_path / "3.log").write_bytes(b"PK\x03\x04")
    os.mkfifo(tmp_path / "4.log")
    (tmp_path / "6.log").write_text(line("/up/b.png"))
    logs = [tmp_path / f"{number}.log" for number in range(1, 7)]
    done = scan_log(fake[1], *logs, "--root", root, "--json")
    assert done.returncode == 7
    report = json.loads(done.stdout)
    assert {row["path"]: bool(row["label"]) for row in report["paths"]} == {"/up/a.jpg": True, "/up/b.png": True}
    told = [f"{logs[1]}: ", f"{logs[2]}: it is a ZIP", f"{logs[3]}: it is a named pipe", f"{logs[4]}: No such file"]
    assert [text.startswith(start) for text, start in zip(report["unread"], told, strict=True)] == [True] * 4
    assert all(text in done.stderr for text in report["unread"])


def test_pipes_of_the_shell_are_read(fake: Fake, root: Path, tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text(line("/up/a.jpg"))
    done = scan_log(fake[1], "/dev/stdin", "--root", root, "--csv", "paths", text=line("/up/a.jpg"))
    assert done.returncode == 0, done.stderr
    assert "dog: large" in done.stdout


def test_a_closed_standard_input_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UnreadableFile, match="standard input is closed"):
        next(lines("-"))


def test_whole_urls_of_the_site_are_its_files(fake: Fake, root: Path) -> None:
    text = line("/up/a.jpg") + line("http://any.example/up/a.jpg") + line("//up/./a.jpg")
    done = scan_log(fake[1], "-", "--root", root, "--json", text=text)
    assert [(row["path"], row["requests"]) for row in json.loads(done.stdout)["paths"]] == [("/up/a.jpg", 3)]


def test_odd_names_are_found_and_harmless(fake: Fake, root: Path) -> None:
    names = [b"caf\xe9.png", b"\x1b[31m\n.png", "\u202egnp.exe.png".encode(), b"100%.png"]
    for name in names:
        (root / "up" / os.fsdecode(name)).write_bytes(b"x")
    text = "".join(line("/up/" + quote(name)) for name in names)
    shown = [scan_log(fake[1], "-", "--root", root, *more, text=text) for more in ((), ("--csv", "paths"), ("--json",))]
    for done in shown:
        assert done.returncode == 0, done.stderr
        assert all(letter.isprintable() or letter == "\n" for letter in done.stdout)
    assert {row["path"] for row in csv.DictReader(io.StringIO(shown[1].stdout))} == {
        *("/up/caf%E9.png", "/up/%1B[31m%0A.png", "/up/%E2%80%AEgnp.exe.png", "/up/100%25.png")
    }
    assert {os.fsencode(row["path"])[4:] for row in json.loads(shown[2].stdout)["paths"]} == set(names)


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
        ([], 2, "give --root DIR or --base-url URL"),
        (["--root", "nowhere"], 6, "nowhere is no folder"),
        (["--root", "x" * 300], 6, "is no folder"),
        (["--base-url", "http://x.invalid"], 6, "cannot be resolved"),
        (["--root", ".", "missing.log"], 7, "missing.log: No such file"),
        (["--root", ".", "-f", "more.log"], 2, "one log at a time"),
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


def test_what_is_followed_has_the_reports_names(fake: Fake, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text(line("http://evil.example/up/a.jpg"))
    command = [sys.executable, "-m", "client.cli", "scan-log", "--url", fake[1], "--base-url", "http://127.0.0.1:1"]
    with started([*command, "-f", "--json", log], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        announced = json.loads(process.stdout.readline())["path"]
        process.send_signal(signal.SIGINT)
        assert [row["path"] for row in json.loads(process.stdout.read())["paths"]] == [announced]
    assert announced == "//evil.example/up/a.jpg"


def test_real_server(server: Endpoints) -> None:
    text = "".join(line(f"/{photo.name}") for photo in sorted(SAMPLES.glob("*.jpg")))
    done = scan_log(server.grpc, "-", "--root", SAMPLES, "--model", "onnx_model", "--json", text=text)
    assert json.loads(done.stdout)["images"] == 4
    assert json.loads(done.stdout)["unreadable"] == 0
