"""The files that code opens by itself while a model is built: weights that a callable loads, lists that it reads."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR
COMPILED = "__pycache__"


class Opened:
    """Files below a folder, each as it was when it was opened first; not those that were written to."""

    def __init__(self, folder: Path, without: Sequence[Path], known: Iterable[Path]) -> None:
        # Now: code may change the working folder.
        self.folder = Path(os.path.abspath(folder))  # noqa: PTH100
        self._folder = _prefix(folder)
        self._known = {os.path.abspath(path) for path in known}  # noqa: PTH100
        # An environment of Python's may lie beside the manifest; what is installed there is known by its version.
        self._others = tuple(map(_prefix, (*without, Path(sys.prefix), Path(sys.base_prefix))))
        self._found: dict[str, tuple[int, ...]] = {}
        self._written: set[str] = set()

    def note(self, name: str, is_written: bool) -> None:
        text = os.path.abspath(name)  # noqa: PTH100  for each file that is opened
        if text.startswith(self._folder) and not text.startswith(self._others):
            text = _source(text)
            if text in self._known:
                return
            self._written.update([text] if is_written else [])
            self._found.setdefault(text, _state(text))

    def files(self) -> dict[Path, bool]:
        """Whether each is still as it was when it was opened."""
        kept = sorted(text for text, state in self._found.items() if state and text not in self._written)
        return {Path(text): _state(text) == self._found[text] for text in kept}


_WATCHING: list[Opened] = []
_IS_HOOKED: list[bool] = []


@contextmanager
def watched(folder: Path, without: Sequence[Path] = (), known: Iterable[Path] = ()) -> Iterator[Opened]:
    """What this process opens below the folder, but for what is below others, and for files that are known.

    What C code and other processes open is not seen.
    """
    if not _IS_HOOKED:
        sys.addaudithook(_hook)  # for good: there is no way to take one away
        _IS_HOOKED.append(True)
    opened = Opened(folder, without, known)
    _WATCHING.append(opened)
    try:
        yield opened
    finally:
        _WATCHING.remove(opened)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or not _WATCHING:
        return
    name, mode, flags = arguments
    if isinstance(name, str | bytes | os.PathLike):
        is_written = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & WRITES)
        for opened in _WATCHING:
            with suppress(OSError, ValueError):  # whoever opens the file is to be told what is wrong
                opened.note(os.fsdecode(name), is_written)


def _prefix(folder: Path) -> str:
    return f"{os.path.abspath(folder)}{os.sep}"  # noqa: PTH100


def _source(text: str) -> str:
    """Of compiled code, what it was made of."""
    if COMPILED not in text:
        return text
    try:
        return importlib.util.source_from_cache(text)
    except ValueError:
        return text


def _state(text: str) -> tuple[int, ...]:
    """Nothing for what is no file."""
    try:
        found = os.stat(text)  # noqa: PTH116
    except (OSError, ValueError):
        return ()
    return (found.st_size, found.st_mtime_ns, found.st_ino) if os.path.isfile(text) else ()  # noqa: PTH113
