"""Networks whose process does not survive them, for tests of builds in other processes."""

import os
import signal
import sys
import time
from pathlib import Path

from torch import nn


def killed() -> nn.Module:
    """As by a system without memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def leaving() -> nn.Module:
    print("these are its last words", file=sys.stderr, flush=True)
    os._exit(3)


def waiting(begun: str) -> nn.Module:
    """Says that it has begun, and goes on only if it is left alone for longer than any test."""
    Path(begun).write_text(str(os.getpid()))
    time.sleep(300)
    raise AssertionError
