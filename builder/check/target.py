"""Which server the repository is judged for, and what it does not know yet, or not any more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from builder.errors import UnusableError
from builder.triton import releases


@dataclass(frozen=True)
class Field:
    """One of the config's that came later than the first release that is known here."""

    path: tuple[str, ...]
    """From the ModelConfig on; `*` stands for any number in a list."""
    owner: str
    """The message that it is in."""
    since: str
    """Release."""


@dataclass(frozen=True)
class Gap:
    """A backend that NVIDIA's images are without."""

    backend: str
    since: str
    """The first release that lacks it."""
    until: str
    """The first one that has it again; empty: none has."""


FIELDS = (
    Field(("input", "*", "is_non_linear_format_io"), "ModelInput", "24.08"),
    Field(("output", "*", "is_non_linear_format_io"), "ModelOutput", "24.08"),
    Field(("model_metrics",), "ModelConfig", "24.11"),
    Field(("ensemble_scheduling", "max_inflight_requests"), "ModelEnsembling", "25.11"),
)
"""As the releases of tritonclient from 2.42 to 2.73 have them; no value of an enumeration came in that time."""
GAPS = (
    Gap("onnxruntime", "24.02", "24.03"),  # server issue 7027
    Gap("tensorflow", "25.03", ""),  # server pull request 8068, server issue 8204
)
FIRST_WITH_AOTI = "26.03"
FIRST_TO_BATCH_AOTI = "26.06"
"""By pytorch_backend's pull request 198."""


@dataclass(frozen=True)
class Target:
    release: str
    """NVIDIA's, such as 24.10."""

    def is_before(self, release: str) -> bool:
        return _numbers(self.release) < _numbers(release)

    def unknown(self) -> Iterator[Field]:
        """What it refuses to read."""
        return (field for field in FIELDS if self.is_before(field.since))

    def knows(self, *path: str) -> bool:
        return all(field.path != path for field in self.unknown())

    def gaps(self) -> Iterator[Gap]:
        """What its images are without, and other releases' have."""
        for gap in GAPS:
            if not self.is_before(gap.since) and (not gap.until or self.is_before(gap.until)):
                yield gap


EMBEDDED = Target("24.10")
"""The server in the wheel, which `build-repo serve` runs."""

NEWEST = Target("26.09")
"""The newest that is known."""


def named(text: str) -> Target:
    """By a release such as 24.10, a server's version such as 2.51, `newest` or `embedded`. Raises UnusableError."""
    if text in releases.SERVERS:
        return Target(text)
    if found := {"newest": (NEWEST,), "embedded": (EMBEDDED,)}.get(text) or of_server(text):
        return found[0]
    first, last = min(releases.SERVERS), NEWEST.release
    raise UnusableError(
        f"{text!r} is no release of Triton that is known here; write one from {first} to {last}, a server's version "
        f"from {releases.SERVERS[first]} to {releases.SERVERS[last]}, newest or embedded"
    )


def of_server(version: str) -> tuple[Target, ...]:
    """The releases with a server of this version; those of its first two numbers, where it is none of theirs."""
    exact = [tag for tag, server in releases.SERVERS.items() if version in (server, f"{server}.0")]
    short = releases.numbers(version, 2)
    alike = [
        tag for tag, server in releases.SERVERS.items() if len(short) == 2 and releases.numbers(server, 2) == short
    ]
    return tuple(Target(tag) for tag in exact or alike)


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))
