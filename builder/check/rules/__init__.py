"""What is looked at in a model, a family of rules a file, in the order in which the server looks.

A family is a module with RULES and `check(model, context)`, and a line in FAMILIES.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from builder.check.findings import Finding, Rule
from builder.check.model import Context, Model
from builder.check.rules import artifacts, backend


class Family(Protocol):
    RULES: tuple[Rule, ...]

    def check(self, model: Model, context: Context) -> Iterator[Finding]:
        """Every finding of a model whose config could be read; it yields each, and stops at none."""


FAMILIES: dict[str, Family] = {
    "backend": backend,
    "artifacts": artifacts,
}


def table() -> Mapping[str, Rule]:
    """Every rule, by its code."""
    return {rule.code: rule for family in FAMILIES.values() for rule in family.RULES}
