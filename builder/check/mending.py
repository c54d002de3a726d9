"""--fix: what can be mended in one way only is mended, and everything is looked at once more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from builder.check import fix
from builder.check.findings import Finding
from builder.check.outcome import Outcome
from builder.check.run import check_repository
from builder.util.shown import printable


def mended(paths: Sequence[Path], outcome: Outcome, say: Callable[[str], None]) -> Outcome:
    """What is left once the safe edits are made; `say` is told what became of each file."""
    for line in fix.apply(outcome.report.findings):
        say(printable(line))
    report = check_repository(paths, outcome.options)
    left = Counter(_same(finding) for finding in report.findings)
    gone = []
    for finding in outcome.report.findings:
        if left[_same(finding)] > 0:
            left[_same(finding)] -= 1
        elif finding.is_safe:
            gone.append(finding)
    return replace(outcome, report=report, mended=tuple(gone))


def _same(finding: Finding) -> tuple[str, str, Path, str]:
    """What a finding is known by when the lines have moved."""
    return finding.rule.code, finding.model, finding.path, finding.message
