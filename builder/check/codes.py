"""Codes as users name them, and what they mean."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable

from builder.check.findings import Rule
from builder.check.rules import table
from builder.errors import UnusableError

WIDTH = 100
ALL = "all"


def chosen(words: Iterable[str]) -> frozenset[str]:
    """The codes that are meant, by code or name, several with commas between. Raises UnusableError."""
    named = [part.strip() for word in words for part in word.split(",")]
    return frozenset(find(name).code for name in named if name)


def find(word: str) -> Rule:
    """The rule of a code or a name. Raises UnusableError."""
    rules = table()
    names = {rule.name: rule for rule in rules.values()}
    if found := rules.get(word.upper()) or names.get(word.lower()):
        return found
    near = difflib.get_close_matches(word.upper(), rules, 1, 0.8) or difflib.get_close_matches(word.lower(), names, 1)
    hint = f"; did you mean {near[0]}?" if near else "; build-repo check --explain all lists them"
    raise UnusableError(f"there is no code {word!r}{hint}")


def explained(word: str) -> str:
    """What is told of a code, or a line of each for `all`. Raises UnusableError."""
    if word == ALL:
        return "\n".join(f"{each.code} {each.level}: {each.name}" for _, each in sorted(table().items()))
    rule = find(word)
    parts = [f"{rule.code} {rule.name} ({rule.level})", rule.summary, f"Why: {rule.why}", f"Mend: {rule.mend}"]
    if rule.source:
        parts.append(f"Source: {rule.source}")
    return "\n".join(line for part in parts for line in textwrap.wrap(part, WIDTH, break_on_hyphens=False))
