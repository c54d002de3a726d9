"""Formats that a network is shipped in. An exporter is a module with what `Exporter` lists."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from builder.exporters import aoti, onnx, openvino, tensorrt, torchscript
from builder.types import ExportRequest, Predict, Target

if TYPE_CHECKING:
    from pydantic import BaseModel

    from builder.triton.signature import Signature


class Exporter(Protocol):
    FILENAME: str
    """Of the artifact in a version folder."""
    BACKEND: str
    """Triton's name of the backend that runs it."""
    PLATFORM: str
    """Triton's name of the platform, where the backend alone does not tell; else empty."""
    PER_GPU: bool
    """Whether an artifact is for one compute capability, and Triton chooses among several by it."""
    PRECISIONS: dict[str, tuple[str, ...]]
    """By device, those that the format has at all."""
    NAMES_TENSORS: bool
    """Whether the artifact holds the tensors' names; else they are INPUT__0, INPUT__1, ... on the server."""
    OPTIONS: type[BaseModel] | None
    """Keys of an entry that are this format's alone, under its name; they come as `Target.options`."""
    VERSIONED: tuple[str, ...]
    """Packages whose versions decide whether a server can read the artifact."""

    def objection(self, options: BaseModel | None, max_batch_size: int) -> tuple[str, str] | None:
        """What contradicts itself in the format's own keys, and the key among them; None: nothing does."""

    def refusal(self, target: Target) -> str:
        """Why this machine cannot build for the target, and what would help; empty if it can."""

    def export(self, request: ExportRequest) -> dict[str, str]:
        """Write the artifact, any batch size up to the target's largest allowed; what to record of it."""

    def load(self, path: Path, target: Target, signature: Signature) -> Predict:
        """The artifact, read back from the disk, as a function of tensors named by the signature."""

    def parameters(self, target: Target) -> dict[str, str]:
        """The backend's own `parameters` for the target."""


EXPORTERS: dict[str, Exporter] = {
    "torchscript": torchscript,
    "onnx": onnx,
    "openvino": openvino,
    "aoti": aoti,
    "tensorrt": tensorrt,
}


def alternatives(target: Target, format_name: str, here: bool = False) -> str:
    """What comes nearest to an impossible target: the format's other precisions, and other formats.

    `here`: of those, what this machine can build.
    """

    def possible(name: str, precision: str) -> bool:
        exporter = EXPORTERS[name]
        listed = precision in exporter.PRECISIONS.get(target.device, ())
        return listed and not (here and exporter.refusal(replace(target, precision=precision)))

    own = [p for p in EXPORTERS[format_name].PRECISIONS.get(target.device, ()) if possible(format_name, p)]
    others = [name for name in EXPORTERS if possible(name, target.precision)]
    parts = [f"{format_name} can be built in {', '.join(own)}"] if own else []
    parts += [f"{target.precision} with format {', '.join(others)}"] if others else []
    return f"for device: {target.device}, {'; '.join(parts)}" if parts else "choose another device"
