"""What stands before and behind networks on the server. A step is a module with what `Step` lists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from builder.steps import detections, mask, pillow, pillow_placed, tokenizer
from builder.triton.signature import Signature


class Step(Protocol):
    ROLE: str
    """What its config says of it: preprocess before the network, postprocess behind it."""
    MODEL_FILE: Path
    """What is published as the step's model.py, for Triton's Python backend."""
    PACKAGES: tuple[str, ...]
    """What that imports beside NumPy, by pip's names. Serving images get the versions that were verified."""

    def signature(self, settings: Any) -> Signature:
        """What the published step takes and gives."""

    def function(self, settings: Any) -> Callable[..., Any]:
        """What the published file computes for one request's element, to be proved before it is published."""


STEPS: dict[str, Step] = {
    "pillow": pillow,
    "pillow_placed": pillow_placed,
    "mask": mask,
    "detections": detections,
    "tokenizer": tokenizer,
}
