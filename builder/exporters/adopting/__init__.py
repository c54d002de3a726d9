"""Artifacts that users bring along, published in place of ones that are made here.

An adopter is a module, or an object, with what `Adopter` lists; it is registered under its format's name.
"""

from __future__ import annotations

from typing import Protocol

from builder.exporters.adopting import onnx, openvino
from builder.exporters.adopting.copied import Copied
from builder.triton.interface import Interface
from builder.types import AdoptRequest


class Adopter(Protocol):
    SUFFIXES: tuple[str, ...]
    """Of files that it takes; the first is the format's own, which is shipped in it unless another is asked for."""
    ADDS_ACTIVATION: bool
    """Whether a softmax or sigmoid can be put behind such a file's output."""
    RUNS_WHERE_BUILT: bool
    """Whether what the exporter needs of a machine is what running the artifact needs, too."""

    def precisions(self, told: Interface) -> tuple[str, ...]:
        """What a file can be shipped in; its own first."""

    def adopt(self, request: AdoptRequest) -> dict[str, str]:
        """Write the artifact, with all that belongs to it; what to record of it. Raises ExportError, OSError."""


ADOPTERS: dict[str, Adopter] = {
    "torchscript": Copied((".pt",), ("fp32", "fp16", "bf16", "int8")),
    "onnx": onnx,
    "openvino": openvino,
    "aoti": Copied((".pt2",), ("fp32", "fp16", "bf16")),
    "tensorrt": Copied((".plan",), ("fp32", "fp16", "bf16", "int8"), RUNS_WHERE_BUILT=True),
}


def formats_of(suffix: str) -> tuple[str, ...]:
    """Those that a file can be shipped in, its own first."""
    own = [name for name, adopter in ADOPTERS.items() if adopter.SUFFIXES[0] == suffix]
    return (*own, *(name for name, adopter in ADOPTERS.items() if suffix in adopter.SUFFIXES[1:]))
