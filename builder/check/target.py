"""Which server the repository is judged for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    release: str
    """NVIDIA's, such as 24.10."""

    def is_before(self, release: str) -> bool:
        return _numbers(self.release) < _numbers(release)


EMBEDDED = Target("24.10")
"""The server in the wheel, which `build-repo serve` runs."""


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))
