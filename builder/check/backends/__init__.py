"""What each backend demands of a config and of the files beside it, and what it fills in by itself.

A backend is a module, or an object, with what `Backend` lists, and a line in BACKENDS.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from builder.check.backends import onnxruntime, openvino, others, place, python, pytorch, tensorrt
from builder.check.backends.network import DamagedError, Network
from builder.check.findings import Finding, Rule
from builder.check.model import Context, Model


class Backend(Protocol):
    RULES: tuple[Rule, ...]
    """Of its own; those that several share are in the modules that they share."""
    DEFAULT_FILE: str
    """Of the artifact in a version's folder, where the config names none; empty: it depends."""

    def demands(self, model: Model, context: Context) -> Iterator[Finding]:
        """What it would refuse by the config and the names of files."""

    def artifacts(self, model: Model, context: Context) -> Iterator[Finding]:
        """What it would refuse by what is in the files, or take for something else than is meant. Raises OSError."""


class Filler(Protocol):
    DEFAULT_FILE: str
    WITHIN: str
    """Name of the file where the artifact may be a folder; empty: it may not."""

    def read(self, path: Path) -> Network | None: ...

    def fill(self, model: Model, found: Network) -> None: ...


BACKENDS: dict[str, Backend] = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "pytorch": pytorch,
    "tensorrt": tensorrt,
    "python": python,
    "dali": others.Dali(),
    "tensorflow": others.TensorFlow(),
    "vllm": others.Vllm(),
    "tensorrtllm": others.TensorRtLlm(),
    "fil": others.Fil(),
}
PLATFORMS = {
    "onnxruntime_onnx": "onnxruntime",
    "pytorch_libtorch": "pytorch",
    pytorch.AOTI: "pytorch",
    "tensorrt_plan": "tensorrt",
    "tensorflow_graphdef": "tensorflow",
    "tensorflow_savedmodel": "tensorflow",
}
"""What a platform alone says of the backend."""
FILL_IN: dict[str, Filler] = {"onnxruntime": onnxruntime, "openvino": openvino}
"""Those that can be followed: they fill in what the artifact tells."""
FILL_IN_UNSEEN = ("tensorrt", "tensorflow", "vllm", "fil", "tensorrtllm")
"""Those that fill in what only their own libraries or a GPU tell."""


def name_of(model: Model) -> str:
    return model.filled.backend or PLATFORMS.get(model.filled.platform, "")


def of(model: Model) -> Backend | None:
    """Its backend, where it is one of NVIDIA's that is known here, and nothing else stands in its place."""
    found = BACKENDS.get(name_of(model))
    return None if found is None or place.is_foreign(model) else found


def fill(model: Model) -> None:
    """Complete `model.filled` as the backend would by itself, of the first version that is served.

    Nothing is done where the artifact does not tell, or where the server would refuse it for that.
    """
    if (filler := FILL_IN.get(name_of(model))) is None or place.is_foreign(model):
        return
    if filler is onnxruntime and model.filled.input and model.filled.output:
        return  # it fills in nothing then, and the file need not be read for that
    artifact = next(place.artifacts(model, filler.DEFAULT_FILE, within=filler.WITHIN), None)
    try:
        found = filler.read(artifact.path) if artifact and not place.foreign(artifact.path) else None
    except (DamagedError, OSError):
        return
    if found:
        filler.fill(model, found)


def is_open(model: Model) -> bool:
    """Whether the backend may fill in inputs, outputs and max_batch_size that cannot be told from here.

    True of what is no backend of NVIDIA's too.
    """
    name = name_of(model)
    if name not in BACKENDS or name in FILL_IN_UNSEEN or place.is_foreign(model):
        return True
    return name == "python" and python.completes(model)
