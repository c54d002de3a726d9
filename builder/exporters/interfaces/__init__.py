"""What files that hold networks tell of themselves, read without running them.

A kind of file is a module with `interface(path) -> Interface`, which raises NetworkError for one that is damaged or
something else, and a line in INTERFACES.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from builder.errors import NetworkError
from builder.exporters.interfaces import onnx, openvino, plan, pt2, torchscript
from builder.triton.interface import Interface
from builder.types import Artifact

INTERFACES: dict[str, Callable[[Path], Interface]] = {
    ".onnx": onnx.interface,
    ".pt": torchscript.interface,
    ".pt2": pt2.interface,
    ".xml": openvino.interface,
    ".plan": plan.interface,
}
"""By suffix."""
STATE_SUFFIXES = (".pth", ".ckpt", ".safetensors", ".bin")


def interface(path: Path) -> Interface:
    """What the file tells. Raises NetworkError."""
    suffix = path.suffix.lower()
    if suffix not in INTERFACES:
        raise NetworkError(f"{path} {_unknown(suffix)}; an artifact is one of {', '.join(INTERFACES)}")
    return INTERFACES[suffix](path)


def read(path: Path) -> Artifact:
    """The file, as it is served or exported. Raises NetworkError."""
    told = interface(path)
    return Artifact(path, told, path.suffix.lower() == ".pt2" and pt2.kind_of(path) == pt2.PROGRAM)


def is_artifact(name: str) -> bool:
    """Whether what an entry names is such a file, not a network."""
    return Path(name).suffix.lower() in INTERFACES


def _unknown(suffix: str) -> str:
    if suffix in STATE_SUFFIXES:
        return "is a file of weights, by its suffix: name it by `weights:`, beside a `network:` that it fits"
    return "has no suffix that tells what it is" if not suffix else f"is of no kind that is served ({suffix})"
