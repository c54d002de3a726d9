"""All that is known of a repository once it was checked: what was found, mended, and said by a real server."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from builder.check.findings import Finding, Level
from builder.check.run import CheckOptions, Report


@dataclass(frozen=True)
class Loading:
    """What the embedded server made of a model."""

    reason: str = ""
    """Why it refused the model, in its own words; empty: it loaded it."""
    is_asked: bool = True
    """Whether it could say anything: it lacks most backends."""


@dataclass(frozen=True)
class Outcome:
    report: Report
    options: CheckOptions
    mended: tuple[Finding, ...] = ()
    """What was found before the safe edits were made, and is gone."""
    loadings: Mapping[str, Loading] = field(default_factory=dict)
    """By model; empty where no server was asked."""

    def counts(self) -> dict[Level, int]:
        found = [finding.rule.level for finding in self.report.findings]
        return {level: found.count(level) for level in Level}

    def by_model(self) -> Iterator[tuple[str, list[Finding]]]:
        """What is found of each, first of the repository itself, whose name is empty; models without any left out."""
        ordered = sorted(self.report.findings, key=lambda finding: finding.model)
        for model, found in groupby(ordered, key=lambda finding: finding.model):
            yield model, list(found)

    def summary(self) -> str:
        """Of everything, on a line."""
        judged = f"judged for Triton {self.options.target.release}{', strictly' if self.options.strict else ''}"
        total = len(self.report.models)
        if not self.report.findings:
            return f"nothing is wrong in {_counted(total, 'model')}, {judged}"
        touched = len({finding.model for finding in self.report.findings if finding.model})
        found = ", ".join(_counted(number, level) for level, number in self.counts().items() if number)
        return f"{found} in {touched} of {_counted(total, 'model')}, {judged}"


def without(findings: Iterable[Finding], codes: frozenset[str], errors_only: bool) -> tuple[Finding, ...]:
    """Those that are asked for."""
    return tuple(
        finding for finding in findings if finding.rule.code not in codes and (finding.is_refusal or not errors_only)
    )


def place(finding: Finding) -> str:
    """`path:line:column`, as far as it is known."""
    where = finding.span
    return str(shown_path(finding.path)) + (f":{where.line}:{where.column}" if where else "")


def shown_path(path: Path) -> Path:
    """From the current folder, where it is in that."""
    here = Path.cwd()
    whole = Path(os.path.abspath(path))  # noqa: PTH100  links stay what they are
    return whole.relative_to(here) if whole.is_relative_to(here) else path


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number != 1 else "")
