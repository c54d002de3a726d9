"""One model of a repository, as far as it is told without loading it; and what its checks know beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.check.config import Config
from builder.check.findings import Edit, Finding, Rule
from builder.check.listing import Listing
from builder.check.target import Target


@dataclass
class Model:
    """A folder of a repository, which the server takes for a model, whatever is in it."""

    name: str
    """The folder's."""
    folder: Path
    config: Config
    filled: Any
    """A ModelConfig: `config.message` with what the server fills in by itself. Rules judge this."""
    versions: tuple[int, ...]
    """Of its folders, as the server reads their names, in order."""
    version_folders: Mapping[int, Path] = field(default_factory=dict)
    listing: Listing = field(default_factory=Listing)

    @property
    def served(self) -> tuple[int, ...]:
        """The versions that its policy chooses of those that are there."""
        from builder.check.policy import chosen

        return chosen(self.filled.version_policy, self.versions)

    def finding(
        self,
        rule: Rule,
        message: str,
        *path: str | int,
        server: str = "",
        mend: str = "",
        edits: tuple[Edit, ...] = (),
        is_safe: bool = False,
    ) -> Finding:
        """Of its config: `path` names the field that is wrong, as `Config.span` takes it."""
        span = self.config.span(*path)
        return Finding(rule, self.name, self.config.file, message, span, server, mend, edits, is_safe)

    def finding_at(self, rule: Rule, path: Path, message: str, server: str = "", mend: str = "") -> Finding:
        """Of another file or folder of it."""
        return Finding(rule, self.name, path, message, None, server, mend)


@dataclass(frozen=True)
class Context:
    """What a model is judged beside."""

    target: Target
    strict: bool = False
    """Whether the server fills in nothing (--disable-auto-complete-config)."""
    cores: int = 1
    """Of the machine that will serve."""
    gpus: int | None = None
    """Of that machine; None: nobody knows, and nothing is refused for lack of one."""
    models: Mapping[str, Model] = field(default_factory=dict)
    """All of the repositories, by name."""
    refused: frozenset[str] = frozenset()
    """Of those, what is already known not to load; for ensembles, and of the models that they ask."""
    unread: frozenset[str] = frozenset()
    """Of those refused, what the server cannot even read."""
    circles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of the ensembles that ask themselves, or that lead to such: the names on the way around."""
    twice: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    """Names that more than one repository has, with the folders."""
