"""Waiting for what comes about by itself, in place of a pause and a hope."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
PATIENCE_S = 60.0
"""Far above what is seen, so that a busy machine fails nothing."""


def until(
    condition: Callable[[], Found],
    seconds: float = PATIENCE_S,
    told: Callable[[], object] = lambda: "",
    pause: float = 0.02,
) -> Found:
    """What the condition gives as soon as that is true. It fails after `seconds`, with what `told` gives."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it did not come about within {seconds:g} s: {told() or condition}"
        time.sleep(pause)
    return found
