"""The user's own functions: package.module:callable, or path/file.py:callable."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from builder.errors import BuilderError
from builder.reasons import reason


def is_callable_name(text: str) -> bool:
    return ":" in text


def load_callable(text: str, base: Path, error: type[BuilderError]) -> Callable[..., Any]:
    """What `text` names; files are relative to `base`. Raises `error`."""
    place, _, attribute = text.rpartition(":")
    path = base / place
    if place.endswith(".py") and not path.is_file():
        raise error(f"{path} does not exist; path/file.py:callable is relative to the manifest")
    try:
        module = _import_file(path) if place.endswith(".py") else _import_module(place, base)
    except Exception as cause:  # the user's file may raise anything
        what = path if place.endswith(".py") else place
        raise error(f"{what} cannot be imported: {type(cause).__name__}: {reason(cause)}") from cause
    function = getattr(module, attribute, None)
    if not callable(function):
        close = difflib.get_close_matches(attribute, [name for name in vars(module) if callable(vars(module)[name])], 1)
        hint = f"did you mean {close[0]!r}?" if close else "name one: path/file.py:callable"
        raise error(f"{place} has no callable {attribute!r}; {hint}")
    return function  # type: ignore[no-any-return]


def call(function: Callable[..., Any], text: str, error: type[BuilderError], **arguments: Any) -> Any:
    """What the user's function `text` gives. Raises `error` for whatever it raises."""
    try:
        return function(**arguments)
    except BuilderError:
        raise
    except Exception as cause:  # the user's function may raise anything
        given = f" with arguments {arguments}" if arguments else ""
        raise error(f"{text} failed{given}: {type(cause).__name__}: {reason(cause)}") from cause


def _import_file(path: Path) -> ModuleType:
    # Under its own name, so that a second file called model.py does not get the first one's code.
    name = f"build_repo_user_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec  # always so for a .py file
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look modules up here
    spec.loader.exec_module(module)
    return module


@functools.cache
def _search(base: Path) -> None:
    sys.path.append(str(base))


def _import_module(name: str, base: Path) -> ModuleType:
    _search(base.resolve())
    return importlib.import_module(name)
