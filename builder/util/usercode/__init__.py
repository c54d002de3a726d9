"""The user's own functions: package.module:callable, or path/file.py:callable."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from builder.errors import BuilderError
from builder.util.names import FOLDER
from builder.util.usercode.border import border, undone
from builder.util.usercode.modules import import_file, import_module

__all__ = ["border", "call", "is_callable_name", "load_callable", "undone"]


def is_callable_name(text: str) -> bool:
    return ":" in text and not text.startswith(FOLDER)


def load_callable(text: str, base: Path, error: type[BuilderError]) -> Callable[..., Any]:
    """What `text` names; files are relative to `base`. Raises `error`."""
    place, _, attribute = text.rpartition(":")
    path = base / place
    is_file = place.endswith(".py")
    if is_file and not path.is_file():
        raise error(f"{path} does not exist; path/file.py:callable is relative to the manifest")
    with border(error, f"{path if is_file else place} cannot be imported"):
        sys.argv = [str(path) if is_file else place]
        module = import_file(path, base) if is_file else import_module(place, base)
        function = getattr(module, attribute, None)
        names = [name for name, value in vars(module).items() if callable(value)]
    if not callable(function):
        close = difflib.get_close_matches(attribute, names, 1)
        hint = f"did you mean {close[0]!r}?" if close else "name one: path/file.py:callable"
        raise error(f"{place} has no callable {attribute!r}; {hint}")
    return function  # type: ignore[no-any-return]


def call(function: Callable[..., Any], text: str, error: type[BuilderError], **arguments: Any) -> Any:
    """What the user's function `text` gives. Raises `error` for whatever it raises."""
    given = f" with arguments {arguments}" if arguments else ""
    with border(error, f"{text} failed{given}"):
        return function(**arguments)
