"""Benchmarks are run by hand; that they fit the code that they measure is seen here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parent.parent / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_it_imports_what_there_is(path: Path) -> None:
    """A few seconds each: they import torch."""
    finished = subprocess.run([sys.executable, path, "--help"], capture_output=True, text=True, timeout=240)
    assert finished.returncode == 0, finished.stderr
