"""What a segmenter gives to the mask that clients get: of the picture's own size or the network's, or a PNG of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from builder.repository import layout
from builder.steps.pillow_placed import PLACEMENT
from builder.triton.signature import ANY_SIZE, MASK_OUTPUT, Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

ROLE = layout.POSTPROCESS
MODEL_FILE = Path(__file__).parent.parent / "runtimes" / "mask" / "model.py"
PACKAGES: tuple[str, ...] = ("pillow",)
CLASSES_INPUT = "CLASSES"


class MaskSettings(BaseModel):
    """Of one segmenter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data_type: str
    """Of what the network gives, Triton's name."""
    shape: tuple[int, ...]
    """[h, w] of numbers of classes, or [C, h, w] of logits."""
    input: tuple[int, int]
    """Height and width of the network's input."""
    size: Literal["picture", "network"] = "picture"
    encode: Literal["none", "png"] = "none"


def signature(settings: MaskSettings) -> Signature:
    classes = TensorSpec(CLASSES_INPUT, settings.data_type, settings.shape)
    return Signature((classes, PLACEMENT), (mask(settings),))


def mask(settings: MaskSettings) -> TensorSpec:
    if settings.encode == "png":
        return TensorSpec(MASK_OUTPUT, "STRING", (1,))
    shape = settings.input if settings.size == "network" else (ANY_SIZE, ANY_SIZE)
    return TensorSpec(MASK_OUTPUT, "UINT8", shape)


def function(settings: MaskSettings) -> Callable[[Array, Array], Any]:
    """What the network gives for one picture, and its placement -> uint8 [H, W], or the bytes of a PNG."""
    from builder.runtimes.mask import model

    return model.Mask(settings.model_dump())
