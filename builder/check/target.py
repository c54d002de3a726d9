"""Which server the repository is judged for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from builder.errors import UnusableError


@dataclass(frozen=True)
class Target:
    release: str
    """NVIDIA's, such as 24.10."""

    def is_before(self, release: str) -> bool:
        return _numbers(self.release) < _numbers(release)


EMBEDDED = Target("24.10")
"""The server in the wheel, which `build-repo serve` runs."""

NEWEST = Target("26.09")
"""The newest that is known."""


def named(text: str) -> Target:
    """By a release such as 24.10, or `newest`. Raises UnusableError."""
    if text == "newest":
        return NEWEST
    if not re.fullmatch(r"\d\d\.(0[1-9]|1[0-2])", text, re.ASCII):
        raise UnusableError(f"{text!r} is no release of Triton; write one as {NEWEST.release}, or newest")
    return Target(text)


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))
