"""What a comparison found."""

from __future__ import annotations

from dataclasses import dataclass

from builder.types import Verification


@dataclass(frozen=True)
class Row:
    """One format and precision. What was not reached is None, and `reason` says why."""

    format: str
    precision: str
    megabytes: float | None = None
    build_seconds: float | None = None
    latency_ms: float | None = None
    """Of one sample alone, median."""
    samples_per_second: float | None = None
    """At batch 8, median."""
    verification: Verification | None = None
    reason: str = ""
    """Empty if the artifact was built and is within the tolerance."""

    def figure(self, name: str) -> float | None:
        """One of the verification's, where it was made, and has it."""
        return self.verification.figures().get(name) if self.verification else None


@dataclass(frozen=True)
class Comparison:
    name: str
    samples: int
    trained: bool
    network: Row
    """The PyTorch module itself."""
    rows: list[Row]
    warnings: tuple[str, ...] = ()
    """Of the network itself."""
