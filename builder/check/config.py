"""A config.pbtxt as the server reads it, with the place of every field."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.check import problems as faults
from builder.check import text as text_format
from builder.check.files import NotRead, content
from builder.check.findings import Problem, Span
from builder.check.places import PathOf, Places

__all__ = ["Config", "PathOf", "Problem", "parse", "read", "schema"]

LIMIT = 1 << 20
"""Bytes of a config that are read. Real ones have some thousands."""


@dataclass(frozen=True)
class Config:
    file: Path
    text: str
    """Empty where the file is not there, or cannot be read."""
    message: Any
    """A ModelConfig, empty where the text is none."""
    exists: bool = True
    problems: tuple[Problem, ...] = ()
    """Why it is not read; then `message` is empty."""
    notes: tuple[Problem, ...] = ()
    """What is odd in a text that the server reads."""
    spans: Places = field(default_factory=Places)
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

    def value(self, *path: str | int) -> Span | None:
        """Where the value of exactly this field is, without its name; of an entry of a map, the entry."""
        try:
            return self.spans.value(path)
        except KeyError:
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
    """Never raises for what is there, whatever it is."""
    try:
        raw = content(file, LIMIT)
    except FileNotFoundError:
        return Config(file, "", schema().ModelConfig(), exists=False)
    except NotRead as found:
        problem = Problem(found.code, found.message, server=found.server)
        return Config(file, "", schema().ModelConfig(), problems=(problem,))
    return of(raw, file)


def of(raw: bytes, file: Path) -> Config:
    """Of what is in a file."""
    try:
        return parse(raw.decode(), file)
    except UnicodeDecodeError:
        return parse(raw.decode(errors="surrogateescape"), file, is_clean=False)


def parse(text: str, file: Path, is_clean: bool = True) -> Config:
    """`is_clean`: there are no surrogates in it, which stand for bytes that are no UTF-8."""
    message = schema().ModelConfig()
    parsed = text_format.parse(text, message, is_clean)
    if parsed.faults:
        problems = faults.told(parsed.faults, text)
        return Config(file, text, schema().ModelConfig(), problems=problems, spans=parsed.places)
    notes = faults.noted(parsed.odd_strings, text) if parsed.odd_strings else ()
    return Config(file, text, message, notes=notes, spans=parsed.places)
