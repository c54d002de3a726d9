"""Images that serve a repository. A kind is a module with what `Kind` lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from builder.containers import nvidia, slim
from builder.containers.order import Order
from builder.repository.served import Served


class Kind(Protocol):
    def refusal(self, models: Sequence[Served]) -> str:
        """Why an image of this kind cannot serve the models; nothing if it can."""

    def base(self, models: Sequence[Served]) -> str:
        """The image to start from, unless the user names one. Raises ImageError."""

    def write(self, order: Order, folder: Path) -> dict[str, Any]:
        """Fill a build context, but for the repository; the values that the Dockerfile's template takes.

        Raises ImageError.
        """


KINDS: dict[str, Kind] = {"slim": slim, "nvidia": nvidia}


def default_kind(models: Sequence[Served]) -> str:
    """The smallest that can serve the models."""
    return next(name for name, kind in KINDS.items() if not kind.refusal(models))
