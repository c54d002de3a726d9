"""The whole story: what is checked, in which order, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.check.findings import Finding
from builder.check.target import Target


@dataclass(frozen=True)
class CheckOptions:
    target: Target
    strict: bool = False
    """Judge with auto-complete off."""
    cores: int = 1
    gpus: int | None = None
    """Of the machine that will serve; None: nobody knows."""


@dataclass(frozen=True)
class Report:
    models: tuple[str, ...]
    """Names of all that was looked at."""
    findings: tuple[Finding, ...]
    """By model and place."""

    def refuses(self, model: str) -> bool:
        """Whether the server would not load it."""
        return any(finding.is_refusal and finding.model == model for finding in self.findings)


def check_repository(paths: Sequence[Path], options: CheckOptions) -> Report:
    """Of repositories and folders of models. Raises UnusableError where there is nothing that could be checked."""
    raise NotImplementedError
