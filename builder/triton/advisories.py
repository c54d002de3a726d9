"""What NVIDIA has published of holes in Triton, and which of them are open in a server, as it is reached.

Each entry says what its bulletin says (github.com/NVIDIA/product-security, by number; all until 2026-09-30), or what
`also` names. What nobody tells is left empty. `closed_by` is this project's own judgement, from nothing but that:
where a bulletin does not tell what an attack consists of, only a newer server closes the hole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from builder.triton import releases

EMBEDDED = "2.51"
"""Version of the server in nvidia-pytriton 0.7.0, the newest wheel."""
WORST = 3
"""Advisories that are named in a line, at most."""
# What an attacker must reach.
NEEDS = {
    "network": "HTTP or gRPC; which of them is not told",
    "http": "HTTP",
    "shared memory": "the shared-memory API",
    "model control": "the model-control API",
    "part": "a part of Triton that is not served here",
    "local": "an account on the server's machine",
}
# What keeps an attacker from it, beside a newer server.
CLOSERS = {
    "loopback": "HTTP on loopback",
    "restricted": "restricted endpoints",
    "nginx": "nginx, as in examples/nginx",
    "gateway": "the gateway",
    "absent": "not served here",
}
SERVERS = releases.SERVERS


@dataclass(frozen=True)
class Advisory:
    cve: str
    what: str
    score: float
    """CVSS 3.1, base."""
    severity: str
    fixed_in: str
    """Release, such as 25.07; all before it are affected."""
    bulletin: int
    needs: str = "network"
    """One of NEEDS."""
    component: str = ""
    """Empty: not told."""
    closed_by: tuple[str, ...] = ()
    """Of CLOSERS; none: only a newer server."""
    also: str = ""
    """Another source than the bulletin, of `needs` and `component`."""


@dataclass(frozen=True)
class Exposure:
    """What others than this machine's own users reach of a server."""

    http: bool = False
    grpc: bool = False
    restricted: bool = True
    """Whether model control and shared memory ask for the administrator's key."""


EVERYBODY = Exposure(http=True, grpc=True, restricted=False)
CALLERS = Exposure(http=True, grpc=True)

_REACHED = ("loopback", "gateway")
_DOORS = ("restricted", "nginx", "gateway")
_CHUNKS = "Trail of Bits, 2025-08-04"
_CHAIN = "pytriton issue 108"

# By release, bulletin and number.
ADVISORIES = (
    Advisory(
        "CVE-2024-53880", "an extra-large model file overflows an integer", 4.9, "MEDIUM", "24.12", 5612,
        "model control", "model loading API", _DOORS,
    ),
    Advisory("CVE-2025-23323", "an invalid request overflows an integer", 7.5, "HIGH", "25.05", 5687,
             closed_by=("gateway",)),
    Advisory("CVE-2025-23324", "an invalid request overflows an integer", 7.5, "HIGH", "25.05", 5687,
             closed_by=("gateway",)),
    Advisory("CVE-2025-23325", "crafted input recurses without end", 7.5, "HIGH", "25.05", 5687),
    Advisory("CVE-2025-23326", "crafted input overflows an integer", 7.5, "HIGH", "25.05", 5687),
    Advisory("CVE-2025-23327", "crafted inputs overflow an integer", 7.5, "HIGH", "25.05", 5687),
    Advisory("CVE-2025-23335", "an input underflows under a certain configuration", 4.4, "MEDIUM", "25.05", 5687,
             "part", "TensorRT backend", ("absent",)),
    Advisory("CVE-2025-23322", "a stream cancelled early frees memory twice", 7.5, "HIGH", "25.06", 5687),
    Advisory("CVE-2025-23331", "an invalid request asks for too much memory", 7.5, "HIGH", "25.06", 5687,
             closed_by=("gateway",)),
    Advisory("CVE-2025-23268", "input of a model is not validated", 8.0, "HIGH", "25.07", 5687,
             "part", "DALI backend", ("absent",)),
    Advisory("CVE-2025-23310", "many small chunks overflow the stack", 9.8, "CRITICAL", "25.07", 5687,
             "http", "HTTP front end", ("loopback", "nginx", "gateway"), _CHUNKS),
    Advisory("CVE-2025-23311", "many small chunks overflow the stack", 9.8, "CRITICAL", "25.07", 5687,
             "http", "HTTP front end", ("loopback", "nginx", "gateway"), _CHUNKS),
    Advisory("CVE-2025-23317", "a crafted request starts a shell", 9.1, "CRITICAL", "25.07", 5687,
             "http", "HTTP front end", _REACHED),
    Advisory("CVE-2025-23318", "a write beyond a buffer", 8.1, "HIGH", "25.07", 5687, component="Python backend"),
    Advisory("CVE-2025-23319", "a request writes beyond a buffer", 8.1, "HIGH", "25.07", 5687,
             "shared memory", "Python backend", _DOORS, _CHAIN),
    Advisory("CVE-2025-23320", "the error of a very large request tells the name of internal shared memory", 7.5,
             "HIGH", "25.07", 5687, component="Python backend", also="ZDI-25-849"),
    Advisory("CVE-2025-23321", "an invalid request divides by zero", 7.5, "HIGH", "25.07", 5687,
             closed_by=("gateway",)),
    Advisory("CVE-2025-23333", "manipulated shared memory is read beyond its end", 5.9, "MEDIUM", "25.07", 5687,
             "shared memory", "Python backend", _DOORS),
    Advisory("CVE-2025-23334", "a request reads beyond a buffer", 5.9, "MEDIUM", "25.07", 5687,
             "shared memory", "Python backend", _DOORS, _CHAIN),
    Advisory("CVE-2025-23316", "a model's name runs code", 9.8, "CRITICAL", "25.08", 5691,
             "model control", "Python backend", _DOORS),
    Advisory("CVE-2025-23328", "crafted input writes beyond a buffer", 7.5, "HIGH", "25.08", 5691),
    Advisory("CVE-2025-23329", "internal shared memory is found and changed", 7.5, "HIGH", "25.08", 5691,
             "shared memory", "Python backend", _DOORS),
    Advisory("CVE-2025-23336", "a misconfigured model ends the service", 4.4, "MEDIUM", "25.08", 5691,
             "model control", "", _DOORS),
    Advisory("CVE-2025-33202", "extra-large payloads overflow the stack", 6.5, "MEDIUM", "25.09", 5723),
    Advisory("CVE-2025-33201", "extra-large payloads end in an exception", 7.5, "HIGH", "25.10", 5734,
             "http", "HTTP front end", _REACHED, "ZDI-26-061"),
    Advisory("CVE-2025-33211", "a quantity is not validated", 7.5, "HIGH", "25.10", 5734),
    Advisory("CVE-2025-33238", "an exception", 7.5, "HIGH", "26.01", 5790,
             "part", "SageMaker front end", ("absent",)),
    Advisory("CVE-2025-33254", "internal state is corrupted", 7.5, "HIGH", "26.01", 5790),
    Advisory("CVE-2026-24158", "a large compressed payload", 7.5, "HIGH", "26.01", 5790,
             "http", "HTTP front end", ("loopback", "nginx", "gateway")),
    Advisory("CVE-2026-24146", "a large number of outputs ends the server", 7.5, "HIGH", "26.02", 5816,
             closed_by=("gateway",)),
    Advisory("CVE-2026-24147", "an uploaded model configuration discloses information", 4.8, "MEDIUM", "26.02", 5816,
             "model control", "", _DOORS),
    Advisory("CVE-2026-24173", "a malformed request ends the server", 7.5, "HIGH", "26.02", 5816,
             closed_by=("gateway",)),
    Advisory("CVE-2026-24174", "a malformed request ends the server", 7.5, "HIGH", "26.02", 5816,
             closed_by=("gateway",)),
    Advisory("CVE-2026-24175", "a malformed request header ends the server", 7.5, "HIGH", "26.02", 5816,
             closed_by=("gateway",)),
    Advisory("CVE-2026-24206", "authentication is bypassed", 7.3, "HIGH", "26.03", 5828),
    Advisory("CVE-2026-24207", "authentication is bypassed", 9.8, "CRITICAL", "26.03", 5828),
    Advisory("CVE-2026-24208", "a path leads out of its folder", 5.3, "MEDIUM", "26.03", 5828),
    Advisory("CVE-2026-24209", "a path leads out of its folder", 7.5, "HIGH", "26.03", 5828),
    Advisory("CVE-2026-24210", "an integer overflows", 7.5, "HIGH", "26.03", 5828),
    Advisory("CVE-2026-24213", "a read beyond a buffer", 8.0, "HIGH", "26.03", 5828,
             "part", "DALI backend", ("absent",)),
    Advisory("CVE-2026-24214", "an integer overflows", 8.0, "HIGH", "26.03", 5828,
             "part", "DALI backend", ("absent",)),
    Advisory("CVE-2026-24215", "resources are used up", 5.7, "MEDIUM", "26.03", 5828,
             "part", "DALI backend", ("absent",)),
    Advisory("CVE-2026-47487", "a model's name leads out of the repository", 4.4, "MEDIUM", "26.03", 5860,
             "part", "MLflow plugin", ("absent",)),
    Advisory("CVE-2026-24264", "highly compressed data", 7.5, "HIGH", "26.04", 5848),
    Advisory("CVE-2026-24266", "memory is used after it was freed", 5.9, "MEDIUM", "26.04", 5848),
    Advisory("CVE-2026-47625", "authorization is missing", 7.5, "HIGH", "26.04", 5875),
    Advisory("CVE-2026-47476", "resources are used up", 7.5, "HIGH", "26.05", 5853),
    Advisory("CVE-2026-47477", "a buffer on the stack overflows", 7.5, "HIGH", "26.05", 5853),
    Advisory("CVE-2026-47478", "an expired file descriptor is used", 7.5, "HIGH", "26.05", 5853),
    Advisory("CVE-2026-47479", "resources are used up", 7.5, "HIGH", "26.05", 5853),
    Advisory("CVE-2026-47480", "an exception is not caught", 7.5, "HIGH", "26.05", 5853),
    Advisory("CVE-2026-47481", "authentication is bypassed", 6.5, "MEDIUM", "26.05", 5853),
    Advisory("CVE-2026-47482", "memory is never released", 7.5, "HIGH", "26.05", 5853),
    Advisory("CVE-2026-47606", "an absolute path leads out of its folder", 6.5, "MEDIUM", "26.06", 5865),
    Advisory("CVE-2026-47627", "a path leads out of its folder", 9.8, "CRITICAL", "26.06", 5865),
    Advisory("CVE-2026-47628", "resources are allocated without limits", 7.5, "HIGH", "26.06", 5865),
    Advisory("CVE-2026-47629", "input is not validated", 7.5, "HIGH", "26.06", 5865),
    Advisory("CVE-2026-47630", "an absolute path leads out of its folder", 5.5, "MEDIUM", "26.06", 5865, "local"),
    Advisory("CVE-2026-16497", "excessive iteration", 7.5, "HIGH", "26.07", 5875),
)  # fmt: skip


def open_in(version: str, exposure: Exposure) -> tuple[Advisory, ...]:
    """What whoever reaches that much can use against a server, the worst first.

    `version` is the server's, such as 2.51, or a release, such as 26.07.
    """
    found = [entry for entry in ADVISORIES if is_affected(version, entry) and _is_reached(entry.needs, exposure)]
    return tuple(sorted(found, key=lambda entry: (-entry.score, entry.cve)))


def is_affected(version: str, advisory: Advisory) -> bool:
    return _order(_release(version)) < _order(advisory.fixed_in)


def _release(version: str) -> str:
    """Of a server's version that no source tells: the last release that surely is no newer; the first, if none is."""
    if _order(version)[:1] > (2,):
        return version
    known = [release for release, server in SERVERS.items() if _order(server) <= _order(version)]
    return max(known, key=_order, default="")


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _is_reached(needs: str, exposure: Exposure) -> bool:
    if needs == "http":
        return exposure.http
    if needs in ("network", "shared memory", "model control"):
        return (exposure.http or exposure.grpc) and (needs == "network" or not exposure.restricted)
    return False


@dataclass(frozen=True)
class Judgement:
    """What is known of the holes of a server that is not started yet."""

    found: tuple[Advisory, ...] | None
    """What is open in it, the worst first; None: nobody knows its version."""
    line: str = ""
    """What a user should know of it; empty: nothing."""

    @property
    def names(self) -> list[str] | None:
        return None if self.found is None else [entry.cve for entry in self.found]


def of_image(version: str | None, reference: str, remedy: str, slim: bool = False) -> Judgement:
    """Of a server in a container, whose ports its callers reach; None: its version is not told by the image's name.

    `slim`: whether it may then be an image of ours with the embedded one.
    """
    who = "whoever reaches its ports"
    if version is not None:
        found = open_in(version, CALLERS)
        return Judgement(found, summary(version, found, who, remedy) if found else "")
    known = summary(EMBEDDED, open_in(EMBEDDED, CALLERS), who, remedy)
    rest = f"in an image of kind slim, {known}" if slim else "SECURITY.md tells the published holes by version"
    return Judgement(None, f"which Triton {reference} has is not told by its name; {rest}")


def summary(version: str, found: Sequence[Advisory], who: str, remedy: str = "--launcher docker") -> str:
    """What of them a user should know and do, in one line."""
    count = f"{len(found)} published holes" if len(found) > 1 else "a published hole"
    worst = ", ".join(f"{entry.cve} ({entry.score})" for entry in found[:WORST])
    return (
        f"Triton {version} has {count} open to {who}, {worst}{' first' if len(found) > WORST else ''}; an image of "
        f"{closing(found)} or newer closes all ({remedy}), the gateway or nginx in front some: see SECURITY.md"
    )


def closing(found: Sequence[Advisory]) -> str:
    """The first release that has none of them."""
    return max((entry.fixed_in for entry in found), key=_order)
