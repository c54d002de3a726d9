"""What is found: which rule, where, in whose words, and how it is mended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

DIED = "the server ended while it loaded this"
"""What is said, instead of words of its own, of a server that a model ends."""


class Level(StrEnum):
    ERROR = "error"
    """The server refuses to load the model."""
    WARNING = "warning"
    """The server loads it, and it is not what its author means."""


@dataclass(frozen=True)
class Rule:
    """One line of the table of codes."""

    code: str
    """TMR and three digits; it never changes, and never comes back for another rule."""
    name: str
    """In words, with hyphens."""
    level: Level
    summary: str
    """What is wrong, of any repository: a sentence."""
    why: str
    """What comes of it: a sentence."""
    mend: str
    """What to do about it: a sentence."""
    source: str = ""
    """Where the rule is from: a file of Triton's sources with its repository, a page of its docs, an issue."""


@dataclass(frozen=True)
class Span:
    """A part of a text, as characters from its beginning; lines and columns count from 1."""

    start: int
    end: int
    line: int
    column: int


@dataclass(frozen=True)
class Edit:
    """Characters `start` to `end` of the config are replaced."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Problem:
    """Why a text is no config, or not quite one."""

    code: str
    """Of its rule."""
    message: str
    span: Span | None = None
    server: str = ""
    mend: str = ""
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True)
class Finding:
    rule: Rule
    model: str
    """Name of its folder; empty for what belongs to the repository."""
    path: Path
    """The file or folder that is wrong."""
    message: str
    """What is wrong here, with the names and the values: a clause without a full stop."""
    span: Span | None = None
    """In the text of `path`."""
    server: str = ""
    """What the server would say, literally, or the part of it that does not depend on the machine."""
    mend: str = ""
    """How this one is mended; empty: as the rule says."""
    edits: tuple[Edit, ...] = ()
    """Of `path`, that mend it."""
    is_safe: bool = False
    """Whether the edits cannot be wrong, so that `--fix` may make them."""

    @property
    def is_refusal(self) -> bool:
        return self.rule.level is Level.ERROR


def are_refused(findings: Iterable[Finding]) -> bool:
    return any(finding.is_refusal for finding in findings)
