"""Functions are small, and files have one subject: of all of a package, so that one odd case may stay.

A function's lines are all of its own, with decorators left out and signature, docstring and inner functions counted.
"""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("builder", "client")
MEDIAN_LINES = 8
P90_LINES = 20
MOST_LINES = 65
"""Of the longest: a command's signature, which is its options."""
FILE_LINES = 350


def lengths(text: str) -> list[int]:
    """Of the functions in a file's text."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    return [(node.end_lineno or node.lineno) - node.lineno + 1 for node in found]


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_are_small(package: str) -> None:
    found = [length for path in files(package) for length in lengths(path.read_text(encoding="utf-8"))]
    assert statistics.median(found) <= MEDIAN_LINES
    assert statistics.quantiles(found, n=10)[-1] <= P90_LINES
    assert max(found) <= MOST_LINES


@pytest.mark.parametrize("package", PACKAGES)
def test_files_have_one_subject(package: str) -> None:
    found = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files(package)}
    assert {name: lines for name, lines in found.items() if lines > FILE_LINES} == {}


def test_how_lines_are_counted() -> None:
    text = '@decorator\ndef one():\n    """Says."""\n    async def two(): ...\n    return two\n'
    assert sorted(lengths(text)) == [1, 4]
