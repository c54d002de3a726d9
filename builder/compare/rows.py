"""What a comparison found."""

from __future__ import annotations

from dataclasses import dataclass

from builder.types import Check


@dataclass(frozen=True)
class Row:
    """One format and precision. What was not reached is None, and `reason` says why."""

    format: str
    precision: str
    megabytes: float | None = None
    build_seconds: float | None = None
    latency_ms: float | None = None
    """Of one image alone, median."""
    images_per_second: float | None = None
    """At batch 8, median."""
    check: Check | None = None
    reason: str = ""
    """Empty if the artifact was built and is within the tolerance."""


@dataclass(frozen=True)
class Comparison:
    name: str
    images: int
    trained: bool
    network: Row
    """The PyTorch module itself."""
    rows: list[Row]
    warnings: tuple[str, ...] = ()
    """Of the network itself."""
