"""No test takes longer than it may, whatever hangs: a plugin of pytest's, beside pytest-timeout.

A test's limit fires once. When it has, or when a test has failed, nothing bounds what tidies up after it any more;
that has a limit of its own here. What heeds no signal, since it hangs outside of Python, ends with its process:
pytest's `faulthandler_exit_on_timeout` sees to that for the test, and this for its end. Another worker goes on then.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pytest_timeout import Settings, is_debugging

TIDYING_S = 180


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("tidying_timeout", "seconds that a test's fixtures have to tidy up", default=str(TIDYING_S))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    if is_debugging():
        return (yield)
    with limited(item, float(item.config.getini("tidying_timeout"))):
        return (yield)


@contextmanager
def limited(item: pytest.Item, seconds: float) -> Iterator[None]:
    hooks, method = item.ihook, item.config.getini("timeout_method")
    faulthandler.dump_traceback_later(2 * seconds, exit=True)
    hooks.pytest_timeout_set_timer(item=item, settings=Settings(seconds, method, False, False))
    try:
        yield
    finally:
        hooks.pytest_timeout_cancel_timer(item=item)
        faulthandler.cancel_dump_traceback_later()
