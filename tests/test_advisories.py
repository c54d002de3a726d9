"""What is known of holes in Triton, what is open by that, and what is done and said about it."""

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import build
from tools import missing

from builder.launchers import access
from builder.launchers.access import Addresses
from builder.launchers.options import LaunchOptions, ServerTls
from builder.triton import advisories, releases
from builder.triton.advisories import (
    ADVISORIES,
    CALLERS,
    CLOSERS,
    EMBEDDED,
    EVERYBODY,
    NEEDS,
    Advisory,
    Exposure,
    open_in,
)

ROOT = Path(__file__).parent.parent
RELEASE = re.compile(r"2\d\.(0[1-9]|1[0-2])")
GRPC = Exposure(grpc=True)
HTTP = Exposure(http=True)


def release(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


# --- the data ---


def test_each_is_there_once_and_in_order() -> None:
    assert len({entry.cve for entry in ADVISORIES}) == len(ADVISORIES)
    places = [(release(entry.fixed_in), entry.bulletin) for entry in ADVISORIES]
    assert [place[0] for place in places] == sorted(place[0] for place in places)


@pytest.mark.parametrize("entry", ADVISORIES, ids=lambda entry: entry.cve)
def test_an_advisory_is_whole(entry: Advisory) -> None:
    assert re.fullmatch(r"CVE-20\d\d-\d{4,}", entry.cve)
    assert RELEASE.fullmatch(entry.fixed_in)
    assert 0 < entry.score <= 10
    assert entry.severity == next(name for least, name in BANDS if entry.score >= least)
    assert 5500 < entry.bulletin < 10000
    assert entry.needs in NEEDS
    assert set(entry.closed_by) <= CLOSERS.keys()
    assert ("absent" in entry.closed_by) == (entry.needs == "part")
    assert ("loopback" in entry.closed_by) == (entry.needs == "http")
    assert ("restricted" in entry.closed_by) == (entry.needs in ("shared memory", "model control"))
    assert entry.component or entry.needs not in ("part", "http", "shared memory")


# Of CVSS 3.1, which NVIDIA's severities follow.
BANDS = ((9.0, "CRITICAL"), (7.0, "HIGH"), (4.0, "MEDIUM"), (0.1, "LOW"))


def test_every_release_is_judged() -> None:
    """By its tag and by its server's version alike, and a newer one never has more holes: the newest is the safest."""
    counts = []
    for image in releases.RELEASES:
        found = open_in(image.tag, EVERYBODY)
        assert found == open_in(image.triton, EVERYBODY) == open_in(f"{image.triton}.0", EVERYBODY)
        counts.append(len(found))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 20
    assert open_in(releases.newest().tag, EVERYBODY) == ()


def test_servers_are_in_the_order_of_their_releases() -> None:
    known = sorted(advisories.SERVERS.items(), key=lambda pair: release(pair[0]))
    assert [release(server) for _, server in known] == sorted(release(server) for _, server in known)


def names(version: str, exposure: Exposure) -> set[str]:
    return {entry.cve for entry in open_in(version, exposure)}


def test_what_is_open_follows_version_and_exposure() -> None:
    assert open_in(EMBEDDED, Exposure()) == ()
    assert {"CVE-2025-23310", "CVE-2025-23311"} <= names(EMBEDDED, HTTP)
    assert not {"CVE-2025-23310", "CVE-2025-23311"} & names(EMBEDDED, GRPC)
    chain = {"CVE-2025-23319", "CVE-2025-23334"}
    assert not chain & names(EMBEDDED, CALLERS)
    assert chain <= names(EMBEDDED, EVERYBODY)
    assert chain <= names(EMBEDDED, replace(GRPC, restricted=False))
    assert "CVE-2025-23316" not in names(EMBEDDED, CALLERS)
    assert {"CVE-2025-23321", "CVE-2026-24173"} <= names(EMBEDDED, GRPC) <= names(EMBEDDED, CALLERS)
    assert "CVE-2025-23310" in names("25.06", HTTP)
    assert "CVE-2025-23310" in names("2.59", HTTP)
    assert "CVE-2025-23310" not in names("25.07", HTTP)
    assert "CVE-2025-23310" not in names("2.59.1", HTTP)
    never = {entry.cve for entry in ADVISORIES if entry.needs in ("part", "local")}
    assert never
    assert not never & names("2.1", EVERYBODY)
    assert len(names("2.1", EVERYBODY)) + len(never) == len(ADVISORIES)


def test_a_version_of_which_no_source_tells_is_not_taken_for_newer() -> None:
    assert names("2.59.2", EVERYBODY) == names("25.07", EVERYBODY)
    assert names("2.99", EVERYBODY) == set()


def test_the_worst_come_first() -> None:
    scores = [entry.score for entry in open_in(EMBEDDED, EVERYBODY)]
    assert scores == sorted(scores, reverse=True)


# --- SECURITY.md ---


def row(entry: Advisory) -> str:
    server = advisories.SERVERS.get(entry.fixed_in)
    where = NEEDS[entry.needs] if entry.needs != "part" else "(not served here)"
    closing = ", ".join(CLOSERS[name] for name in entry.closed_by if name != "absent")
    cells = (
        entry.cve,
        entry.what,
        f"{entry.score} {entry.severity.lower()}",
        entry.component or "not told",
        where,
        entry.fixed_in + (f" ({server})" if server else ""),
        closing or ("" if entry.needs == "part" else "a newer release"),
        f"{entry.bulletin}{', ' + entry.also if entry.also else ''}",
    )
    return f"| {' | '.join(cells)} |"


def test_the_page_has_the_data() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| CVE-")]
    assert rows == [row(entry) for entry in ADVISORIES], "write SECURITY.md's table anew:\n" + "\n".join(
        row(entry) for entry in ADVISORIES
    )
    assert f"Triton {EMBEDDED}," in page
    assert "(SECURITY.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


# --- serve ---

TLS = ServerTls(Path("certificate"), Path("key"))
SOUND = releases.newest().triton


@pytest.mark.parametrize(
    ("changes", "triton", "expected"),
    [
        ({}, EMBEDDED, ("127.0.0.1", "127.0.0.1", "127.0.0.1")),
        ({"host": "localhost"}, EMBEDDED, ("localhost", "localhost", "localhost")),
        ({"host": "::1"}, EMBEDDED, ("::1", "::1", "::1")),
        ({"host": "0.0.0.0"}, EMBEDDED, ("127.0.0.1", "0.0.0.0", "127.0.0.1")),
        ({"host": "::"}, EMBEDDED, ("127.0.0.1", "::", "127.0.0.1")),
        ({"host": "0.0.0.0", "tls": TLS}, EMBEDDED, ("127.0.0.1", "0.0.0.0", "127.0.0.1")),
        ({"host": "0.0.0.0", "restrict": False}, EMBEDDED, ("127.0.0.1", "0.0.0.0", "127.0.0.1")),
        ({"host": "0.0.0.0", "http_host": "10.0.0.7"}, EMBEDDED, ("10.0.0.7", "0.0.0.0", "10.0.0.7")),
        ({"host": "0.0.0.0", "http_host": "10.0.0.7", "tls": TLS}, EMBEDDED, ("10.0.0.7", "0.0.0.0", "10.0.0.7")),
        ({"http_host": "0.0.0.0"}, EMBEDDED, ("0.0.0.0", "127.0.0.1", "0.0.0.0")),
        ({"host": "0.0.0.0", "metrics_host": "10.0.0.7"}, EMBEDDED, ("127.0.0.1", "0.0.0.0", "10.0.0.7")),
        ({"host": "0.0.0.0"}, SOUND, ("0.0.0.0", "0.0.0.0", "0.0.0.0")),
        ({"host": "0.0.0.0", "tls": TLS}, SOUND, ("127.0.0.1", "0.0.0.0", "127.0.0.1")),
        ({"host": "0.0.0.0"}, "2.64", ("127.0.0.1", "0.0.0.0", "127.0.0.1")),
        ({"host": "0.0.0.0"}, None, ("0.0.0.0", "0.0.0.0", "0.0.0.0")),
    ],
)
def test_where_a_server_listens(changes: dict[str, object], triton: str | None, expected: tuple[str, ...]) -> None:
    options = access.judged(LaunchOptions(**changes), triton)  # type: ignore[arg-type]
    assert access.addresses(options) == Addresses(*expected)


def warned(triton: str | None, **changes: object) -> list[str]:
    told: list[str] = []
    options = access.judged(LaunchOptions(warn=told.append, **changes), triton)  # type: ignore[arg-type]
    assert triton is None or bool(told) == bool(access.open_advisories(options))
    return told


def test_one_line_says_what_is_open() -> None:
    (line,) = warned(EMBEDDED, host="0.0.0.0")
    count = len(open_in(EMBEDDED, GRPC))
    assert line.startswith(f"Triton 2.51 has {count} published holes open to whoever reaches 0.0.0.0, CVE-2026-24207")
    assert "CVE-2025-23310" not in line
    assert "26.07 or newer closes all (--launcher docker), the gateway or nginx in front some" in line
    assert line.endswith("plain HTTP stays on loopback unless --http-host moves it")
    assert "\n" not in line
    (insisted,) = warned(EMBEDDED, host="0.0.0.0", http_host="10.0.0.7")
    assert f"has {len(open_in(EMBEDDED, CALLERS))} published holes open to whoever reaches 10.0.0.7" in insisted
    assert "CVE-2025-23310 (9.8)" in insisted
    assert "stays on loopback" not in insisted
    (opened,) = warned(EMBEDDED, host="0.0.0.0", restrict=False)
    assert "CVE-2025-23316 (9.8)" in opened
    assert "CVE-2025-23316" not in line
    (unknown,) = warned(None, host="0.0.0.0")
    assert "which Triton the image has is told neither" in unknown


def test_nothing_is_said_where_nothing_is_open() -> None:
    assert warned(EMBEDDED) == warned(None) == warned(SOUND, host="0.0.0.0") == []
    assert warned(EMBEDDED, restrict=False) == []


# In a network namespace of its own, so that 0.0.0.0 opens nothing to anybody. Its other address is on the same device.
INSIDE = """
import fcntl, json, socket, struct, subprocess, sys, urllib.request

OTHER = "10.9.9.9"
with socket.socket() as control:
    fcntl.ioctl(control, 0x8914, struct.pack("16sH14s", b"lo", 1, b""))  # SIOCSIFFLAGS, IFF_UP
    address = struct.pack("16sHH4s8s", b"lo:1", socket.AF_INET, 0, socket.inet_aton(OTHER), b"")
    fcntl.ioctl(control, 0x8916, address)  # SIOCSIFADDR

def accepts(host, port):
    with socket.socket() as connection:
        return connection.connect_ex((host, port)) == 0

command = [sys.executable, "-m", "builder", "serve", "--json", "--host", "0.0.0.0", *sys.argv[1:]]
server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
found = {"ready": json.loads(server.stdout.readline() or "null")}
if found["ready"]:
    found |= {host: [accepts(host, port) for port in (8000, 8001, 8002)] for host in ("127.0.0.1", OTHER)}
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    found["version"] = json.load(direct.open("http://127.0.0.1:8000/v2", timeout=30))["version"]
server.terminate()
print(json.dumps(found | {"said": server.communicate(timeout=90)[1]}))
"""


@pytest.fixture(scope="module")
def alone() -> Callable[..., dict[str, object]]:
    ways = (["unshare", "--net"], ["unshare", "--net", "--map-root-user"])
    found = [way for way in ways if subprocess.run([*way, "true"], check=False, timeout=60).returncode == 0]
    isolated = found[0] if found else missing("no network namespace can be made, and no test listens beyond loopback")

    def run(*arguments: str) -> dict[str, object]:
        command = [*isolated, sys.executable, "-c", textwrap.dedent(INSIDE), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
        found: dict[str, object] = json.loads(done.stdout)
        return found

    return run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    build(folder, "models:\n  lenet: {weights: random, format: onnx}\n")
    return folder / "repository"


@pytest.mark.parametrize(
    ("arguments", "http", "count"),
    [((), False, len(open_in(EMBEDDED, GRPC))), (("--http-host", "0.0.0.0"), True, len(open_in(EMBEDDED, CALLERS)))],
)
def test_the_real_server(
    arguments: tuple[str, ...], http: bool, count: int, alone: Callable[..., dict[str, object]], tiny: Path
) -> None:
    found = alone("-r", str(tiny), *arguments)
    assert found["127.0.0.1"] == [True, True, True], found["said"]
    assert found["10.9.9.9"] == [http, True, http]
    assert str(found["version"]).startswith(f"{EMBEDDED}.")
    ready, said = found["ready"], str(found["said"])
    assert isinstance(ready, dict)
    assert ready["restricted"]
    assert len(ready["advisories"]) == count
    assert f"build-repo: Triton {EMBEDDED} has {count} published holes open to whoever reaches 0.0.0.0" in said
    assert said.count("published holes") == 1
