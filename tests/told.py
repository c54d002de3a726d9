"""What a test has to say even if it passes: figures, which a run prints at its end, whatever process ran the test.

A plugin of pytest's, with a fixture: `tell("99.7 % agreement")`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

TOLD = "told"


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    return lambda line: record_property(TOLD, line)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """With -q, too."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    lines = [text for report in reports for name, text in getattr(report, "user_properties", ()) if name == TOLD]
    if lines:
        terminalreporter.section("what tests tell", "=")
    for line in dict.fromkeys(lines):
        terminalreporter.write_line(line)
