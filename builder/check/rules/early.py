"""What the server refuses when it reads a config, before it loads anything: to others, such a model is not there."""

from __future__ import annotations

from collections.abc import Iterable

from builder.check.findings import Finding

BLOCKS = ((1, 99), (101, 107), (111, 112), (114, 114), (219, 219), (331, 334), (601, 615), (691, 691), (951, 951))
"""Of codes."""


def are_early(findings: Iterable[Finding]) -> bool:
    numbers = [int(finding.rule.code[3:]) for finding in findings if finding.is_refusal]
    return any(first <= number <= last for number in numbers for first, last in BLOCKS)
