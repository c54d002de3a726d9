"""Other people's exporters, without their remarks; what matters of them is in their exceptions."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout


def tell_nobody() -> None:
    """Before ONNX Runtime is imported, which from 1.29 on reports its use to its makers unless it is told not to."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing is printed, logged or warned of inside: not code by the page, progress bars, or deprecations."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
