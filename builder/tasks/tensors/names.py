"""Names that tensors can have on the server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LONGEST = 255
FORBIDDEN = "\"'\\"
"""They end or escape a string in a config.pbtxt, in JSON and in shells."""


def fault(name: str) -> str:
    """Why no tensor can have the name; empty if one can.

    Triton, ONNX and OpenVINO take what can be printed, such as TensorFlow's `input:0` and `bert/pooler`.
    """
    if not name or name != name.strip():
        return "a tensor's name is not empty, and no space begins or ends it"
    if not name.isprintable():
        return "a tensor's name holds printable characters alone"
    if any(character in FORBIDDEN for character in name):
        return "a tensor's name holds no quotes and no backslash"
    if len(name.encode()) > LONGEST:
        return f"a tensor's name has {LONGEST} bytes at most"
    return ""


def shared(inputs: Iterable[str], outputs: Iterable[str]) -> str:
    """A name that an input and an output both have, which formats and ensembles take for one tensor; else empty."""
    return next(iter(sorted(set(inputs) & set(outputs))), "")


def repeated(names: Sequence[str]) -> str:
    """A name that comes twice; else empty."""
    return next((name for number, name in enumerate(names) if name in names[:number]), "")
