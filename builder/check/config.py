"""A config.pbtxt as the server reads it, with the place of every field."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.check.findings import Span

PathOf = tuple[str | int, ...]
"""Of a field: ("input", 0, "dims", 1); of an entry of a map: ("parameters", "key")."""


@dataclass(frozen=True)
class Problem:
    """Why a text is no config."""

    code: str
    message: str
    span: Span | None = None
    server: str = ""


@dataclass(frozen=True)
class Config:
    file: Path
    text: str
    """Empty where the file is not there, or cannot be read."""
    message: Any
    """A ModelConfig, empty where the text is none."""
    exists: bool = True
    problems: tuple[Problem, ...] = ()
    """Why the server cannot read it; then `message` is empty."""
    spans: Mapping[PathOf, Span] = field(default_factory=dict)
    """Of fields, as far as they are in the text: from the name to the end of the value."""

    @property
    def is_readable(self) -> bool:
        return not self.problems

    def span(self, *path: str | int) -> Span | None:
        """Where the field is, or else what it would be in; None: nowhere in particular."""
        for length in range(len(path), 0, -1):
            if found := self.spans.get(path[:length]):
                return found
        return None


@functools.cache
def schema() -> Any:
    """The module with Triton's ModelConfig, without the clients beside it, whose import takes longer than a check."""
    package = importlib.util.find_spec("tritonclient")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("tritonclient")
    file = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("tritonclient.grpc.model_config_pb2", file)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(str(file))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(file: Path) -> Config:
    """Never raises for what is in the file, whatever it is."""
    empty = schema().ModelConfig()
    if not file.exists():
        return Config(file, "", empty, exists=False)
    return parse(file.read_text(encoding="utf-8"), file)


def parse(text: str, file: Path) -> Config:
    from google.protobuf import text_format

    try:
        return Config(file, text, text_format.Parse(text, schema().ModelConfig()))
    except text_format.ParseError as error:
        return Config(file, text, schema().ModelConfig(), problems=(Problem("TMR002", str(error)),))
