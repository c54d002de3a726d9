"""Requests and the answers that were recorded for them at build time: `golden.json` in a served version's folder.

What clients ask has them, an ensemble or a network by itself. Triton ignores the file. They go through the whole
pipeline, from what a client sends to what it gets, so that a server can be asked the same before it takes traffic.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import RepositoryError
from builder.repository import detections
from builder.triton.signature import MASK_OUTPUT

if TYPE_CHECKING:
    import numpy as np

FILENAME = "golden.json"
FORM = 1
MOST_BYTES = 4 * 1024 * 1024
"""Of one model's samples together; those beyond it are left out, but for the first."""
TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 5e-2, "int8": 1e-1}
"""By precision: what the same artifact may differ by elsewhere, as a share of the output's largest magnitude."""
TINY = 1e-6
MASK_TYPES = ("UINT8", "BYTES")
"""Of masks some pixels may differ, which lie on the border of two classes; as files they are first decoded."""
TYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""NumPy's, by Triton's names; BF16 and BYTES have none."""


@dataclass(frozen=True)
class GoldenTensor:
    """As the KServe v2 protocol sends it."""

    name: str
    data_type: str
    """Triton's, such as FP32 or BYTES."""
    shape: tuple[int, ...]
    """With the batch, where the model batches."""
    data: bytes
    """The protocol's raw form, little-endian; of BYTES, each element behind its length in four bytes."""


@dataclass(frozen=True)
class Golden:
    """One request, and its answer."""

    inputs: tuple[GoldenTensor, ...]
    outputs: tuple[GoldenTensor, ...]

    @property
    def bytes(self) -> int:
        return sum(len(tensor.data) for tensor in (*self.inputs, *self.outputs))


@dataclass(frozen=True)
class GoldenSet:
    samples: tuple[Golden, ...]
    tolerance: float
    """A share of each output's largest magnitude."""


def write(folder: Path, goldens: GoldenSet) -> None:
    """Into a version's folder. Raises OSError."""
    samples = [{"inputs": _told(one.inputs), "outputs": _told(one.outputs)} for one in _few(goldens.samples)]
    document = {"golden": FORM, "tolerance": goldens.tolerance, "samples": samples}
    (folder / FILENAME).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> GoldenSet | None:
    """Of a version's folder; None where nothing was recorded. Raises RepositoryError."""
    path = folder / FILENAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["golden"] != FORM:
            raise RepositoryError(
                f"{path} has form {document['golden']}, this build-repo reads {FORM}; use a newer one"
            )
        samples = tuple(Golden(_tensors(one["inputs"]), _tensors(one["outputs"])) for one in document["samples"])
        # Of some models no answer stands beyond all rounding, so that none was recorded.
        return GoldenSet(samples, float(document["tolerance"])) if samples else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RepositoryError(f"{path} cannot be read ({error!r}); build the model again") from None


def _few(samples: tuple[Golden, ...]) -> list[Golden]:
    """The first ones, whose bytes are together no more than MOST_BYTES; at least one."""
    found: list[Golden] = []
    for sample in samples:
        if found and sum(one.bytes for one in (*found, sample)) > MOST_BYTES:
            break
        found.append(sample)
    return found


def _told(tensors: tuple[GoldenTensor, ...]) -> list[dict[str, Any]]:
    return [
        {
            "name": tensor.name,
            "datatype": tensor.data_type,
            "shape": list(tensor.shape),
            "data": base64.b64encode(tensor.data).decode(),
        }
        for tensor in tensors
    ]


def _tensors(told: list[dict[str, Any]]) -> tuple[GoldenTensor, ...]:
    return tuple(
        GoldenTensor(one["name"], one["datatype"], tuple(map(int, one["shape"])), base64.b64decode(one["data"]))
        for one in told
    )


def values(tensor: GoldenTensor) -> np.ndarray[Any, Any] | None:
    """None for types whose bytes are compared as they are. Raises ValueError for bytes that are not of its shape."""
    import numpy as np

    if tensor.data_type == "BF16":
        return (np.frombuffer(tensor.data, "<u2").astype("<u4") << 16).view("<f4").reshape(tensor.shape)
    if tensor.data_type not in TYPES:
        return None
    return np.frombuffer(tensor.data, TYPES[tensor.data_type]).reshape(tensor.shape)


def unlike(sample: Golden, found: Mapping[str, GoldenTensor], tolerance: float) -> str:
    """What is wrong with the answer to a sample, its tensors by their names; nothing where it is right."""
    for expected in sample.outputs:
        if expected.name not in found:
            return f"there is no {expected.name}"
    pairs = [(expected, found[expected.name]) for expected in sample.outputs]
    if {tensor.name for tensor in sample.outputs} != set(detections.NAMES):
        return next(filter(None, (difference(*pair, tolerance) for pair in pairs)), "")
    if wrong := next(filter(None, (_form(*pair) for pair in pairs)), ""):
        return wrong
    ours, theirs = (_numbers(side) for side in zip(*pairs, strict=True))
    return detections.difference(ours, theirs, tolerance)


def _numbers(tensors: Iterable[GoldenTensor]) -> dict[str, np.ndarray[Any, Any]]:
    return {tensor.name: array for tensor in tensors if (array := values(tensor)) is not None}


def difference(expected: GoldenTensor, found: GoldenTensor, tolerance: float) -> str:
    """What is wrong with an answer, with the figures; nothing where it is right."""
    import numpy as np

    if wrong := _form(expected, found):
        return wrong
    ours, theirs = values(expected), values(found)
    if expected.name == MASK_OUTPUT and expected.data_type in MASK_TYPES:
        return _of_masks(expected, found, tolerance)
    if ours is None or theirs is None or not np.issubdtype(ours.dtype, np.floating):
        return "" if expected.data == found.data else f"{expected.name} differs from what was recorded"
    if not np.array_equal(np.isfinite(ours), np.isfinite(theirs)):
        return f"{expected.name} is not finite where it was, or the other way round"
    finite = np.isfinite(ours)
    largest = max(float(np.abs(ours[finite]).max(initial=0)), TINY)
    off = float(np.abs(ours[finite].astype("f8") - theirs[finite].astype("f8")).max(initial=0)) / largest
    return (
        "" if off <= tolerance else f"{expected.name} is off by {off:.2%} of its largest value, allowed {tolerance:.2%}"
    )


def _form(expected: GoldenTensor, found: GoldenTensor) -> str:
    """What is wrong with a tensor's type, shape or bytes, whatever its values."""
    if (found.data_type, found.shape) != (expected.data_type, expected.shape):
        return (
            f"{expected.name} is {found.data_type} {list(found.shape)}, and {expected.data_type} "
            f"{list(expected.shape)} was recorded"
        )
    try:
        values(found)
    except ValueError:
        return f"{expected.name} has {len(found.data)} bytes, and {len(expected.data)} were recorded"
    return ""


def _of_masks(expected: GoldenTensor, found: GoldenTensor, tolerance: float) -> str:
    """`tolerance` is the share of the pixels that may be of another class."""
    if expected.data == found.data:
        return ""
    ours, theirs = (_mask(tensor) for tensor in (expected, found))
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return f"{expected.name} differs from what was recorded"
    share = float((ours != theirs).mean())
    allowed = f"allowed {tolerance:.2%}"
    return "" if share <= tolerance else f"{expected.name} differs in {share:.2%} of its pixels, {allowed}"


def _mask(tensor: GoldenTensor) -> np.ndarray[Any, Any] | None:
    """None where it is no mask."""
    import numpy as np
    from PIL import Image

    if tensor.data_type != "BYTES":
        return values(tensor)
    try:
        with Image.open(io.BytesIO(tensor.data[4:])) as image:
            return np.array(image)
    except Exception:  # of what is no picture Pillow raises whatever it stumbles over
        return None
