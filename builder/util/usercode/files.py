"""The files that a user's file imports, read off its text: what a build needs, and what changes its result."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

from builder.util.usercode.modules import absolute, place_of_module, root_of


def imported_files(path: Path, base: Path) -> list[Path]:
    """The file, and those of the user's own that it imports, directly or not, as seen from `base`."""
    root, waiting = root_of(path, base), [absolute(path)]
    found: list[Path] = []
    while waiting:
        file = waiting.pop()
        if file not in found and file.is_file():
            found.append(file)
            waiting += _packages(file.parent, root)
            waiting += [one for folder, name in _imports(file, root) for one in _files(folder, name)]
    return [base / os.path.relpath(file, base) for file in sorted(found)]


def imported_names(file: Path) -> set[str]:
    """The first part of whatever a file imports, but for what is beside it by a leading dot."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return set()
    return {name.partition(".")[0] for node in ast.walk(tree) for level, name in _names(node) if not level}


def _packages(folder: Path, root: Path) -> list[Path]:
    above = [place for place in (folder, *folder.parents) if place.is_relative_to(root) and place != root]
    return [place / "__init__.py" for place in above]


def _imports(file: Path, root: Path) -> Iterator[tuple[Path, str]]:
    """(folder, dotted name) of each import, in functions too."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):  # the build will say so
        return
    for node in ast.walk(tree):
        for level, name in _names(node):
            if level:
                yield file.parents[level - 1] if level <= len(file.parents) else file.parent, name
            elif place := _place(name, file, root):
                yield place, name


def _place(name: str, file: Path, root: Path) -> Path | None:
    top, *parts = name.split(".")
    return place_of_module(top, parts[:1], file, root, is_loaded_too=True)


def _names(node: ast.AST) -> list[tuple[int, str]]:
    """What is imported may be a module of a package, or something in it: each is tried."""
    if isinstance(node, ast.Import):
        return [(0, alias.name) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        start = f"{node.module}." if node.module else ""
        return [(node.level, f"{start}{alias.name}") for alias in node.names]
    return []


def _files(folder: Path, name: str) -> Iterator[Path]:
    """Those of a dotted name, packages on the way included."""
    for part in name.split("."):
        yield folder / f"{part}.py"
        folder = folder / part
        yield folder / "__init__.py"
