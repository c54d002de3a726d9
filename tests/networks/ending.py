"""Networks whose process does not survive them, for tests of builds in other processes."""

import os
import signal
import sys
import time
from pathlib import Path

import torch
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


def on_a_node_that_dies(begun: str) -> nn.Module:
    """On the node that is to die it says that it has begun, and stays; on others it waits for that, and is made."""
    if os.environ.get("DOOMED_NODE"):
        waiting(begun)
    deadline = time.monotonic() + 120
    while not Path(begun).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return with_a_head()


def with_a_head() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), Head())


class Head(nn.Module):
    """With a forward() of its own, whose place in this file is in what the tracer notes."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Linear(8 * 16, 3)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.scores(features) * 2
