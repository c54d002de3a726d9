"""A network's classes, or its scores of them, to a mask: of the picture's own size, or as an encoded picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from builder.steps.pillow_placed import PLACEMENT
from builder.triton.signature import ANY_SIZE, MASK_OUTPUT, Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

ROLE = "postprocess"
MODEL_FILE = Path(__file__).parent.parent / "runtimes" / "mask" / "model.py"
PACKAGES: tuple[str, ...] = ("pillow",)
GIVEN = "GIVEN"


class MaskSettings(BaseModel):
    """What the step is told of its network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data_type: str
    """Triton's, of what the network gives: whole numbers are classes, others their scores."""
    shape: tuple[int, ...]
    """[H, W] of classes, or [C, H, W] of scores."""
    network_size: tuple[int, int]
    """[height, width] of the network's input."""
    size: Literal["picture", "network"] = "picture"
    encode: Literal["none", "png"] = "none"


def signature(settings: MaskSettings) -> Signature:
    given = TensorSpec(GIVEN, settings.data_type, settings.shape)
    return Signature((given, PLACEMENT), (mask(settings),))


def mask(settings: MaskSettings) -> TensorSpec:
    """What clients get."""
    if settings.encode == "png":
        return TensorSpec(MASK_OUTPUT, "STRING", (1,))
    own = settings.size == "picture"
    return TensorSpec(MASK_OUTPUT, "UINT8", (ANY_SIZE, ANY_SIZE) if own else settings.network_size)


def function(settings: MaskSettings) -> Callable[[Array, Array], Any]:
    """What the network gives for one picture, and where that lies in it -> uint8 [H, W], or the bytes of a PNG."""
    from builder.runtimes.mask import model

    return model.Masker(settings.model_dump())
