"""Formats that a network is shipped in. An exporter is a module with what `Exporter` lists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from builder.exporters import onnx, torchscript
from builder.types import Predict

if TYPE_CHECKING:
    import torch
    from torch import nn


class Exporter(Protocol):
    FILENAME: str
    """Of the artifact in a version folder."""
    BACKEND: str
    """Triton's name of the backend that runs it."""
    PRECISIONS: tuple[str, ...]
    VERSIONED: tuple[str, ...]
    """Packages whose versions decide whether a server can read the artifact."""

    def export(self, module: nn.Module, example: torch.Tensor, path: Path) -> None:
        """Write `module` to `path`, any batch size allowed. `example` is float32 [2, C, H, W]."""

    def load(self, path: Path, threads: int) -> Predict:
        """The artifact, read back from the disk, as a function."""

    def thread_parameters(self, threads: int) -> dict[str, str]:
        """The backend's own `parameters` for that many threads within an operator."""


EXPORTERS: dict[str, Exporter] = {
    "torchscript": torchscript,
    "onnx": onnx,
}
