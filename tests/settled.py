"""Modules that have been imported stay: the garbage collector need not look through them again. A plugin of pytest's.

PyTorch, ONNX and OpenVINO are a million objects, which each build's collections went through: half of what building a
small network took. A program that builds one model has a fifth of them, and ends.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

MANY = 30
"""Modules, imported since; what tests import and forget again does not count for much."""
_known = 0


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Iterator[object]:
    """Between tests, when their networks are gone."""
    settle()
    return (yield)


def settle() -> None:
    """To be called where no network lives that is to be forgotten."""
    global _known
    if len(sys.modules) > _known + MANY:
        gc.collect()
        gc.freeze()
        _known = len(sys.modules)
