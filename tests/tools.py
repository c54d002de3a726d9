"""What tests need of the machine, beside what is installed with this project: the one place that skips for want of it.

A plugin of pytest's, too. A test that needs something bears its marker, which pyproject.toml lists, whether the machine
has it or not. What is lacking skips a test with its reason, and fails it where CI is set.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

_running: list[pytest.Item] = []
OFF_PATH = ("/usr/sbin", "/lib/systemd", "/usr/lib/systemd")
PLACES = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"], *OFF_PATH))
"""Of this environment, else of the machine; some programs are where PATH does not lead everybody."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _running.append(item)
    try:
        return (yield)
    finally:
        _running.pop()


def needs(marker: str) -> None:
    """Whoever gets here runs a test, by itself or by a fixture, that must bear the marker."""
    for item in _running[-1:]:
        assert item.get_closest_marker(marker), f"{item.nodeid} needs {marker}: it must bear @pytest.mark.{marker}"


def program(names: str, remedy: str, marker: str | None = None) -> str:
    """The path of the first of these programs that is there. The test is skipped where none is, and fails in CI."""
    if marker:
        needs(marker)
    paths = filter(None, (which(name) for name in names.split()))
    return next(paths, None) or missing(f"no {names.split()[0]} to test with: {remedy}")


def which(name: str) -> str | None:
    return shutil.which(name, path=PLACES)


def missing(what: str) -> NoReturn:
    pytest.fail(what) if os.environ.get("CI") else pytest.skip(what)
