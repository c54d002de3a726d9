"""What a build of several entries ended with."""

from __future__ import annotations

from dataclasses import dataclass, field

from builder.errors import BuilderError
from builder.types import BuiltModel


@dataclass(frozen=True)
class Failure:
    name: str
    error: BuilderError


@dataclass
class Outcome:
    built: list[BuiltModel] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)

    def add(self, name: str, result: BuiltModel | BuilderError) -> None:
        if isinstance(result, BuiltModel):
            self.built.append(result)
        else:
            self.failed.append(Failure(name, result))
