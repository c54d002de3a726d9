"""Modules that have been imported stay: the garbage collector need not look through them again.

PyTorch, ONNX and OpenVINO are a million objects, and each build collects three times: half of what building a small
network took in a process of tests. conftest.py has the hook.
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
