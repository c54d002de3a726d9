"""Encoded images to the network's tensor, by Pillow on the CPU: equal to torchvision's transforms to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.data.recipe import PreprocessRecipe
from builder.triton.signature import IMAGE_INPUT, Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    FloatArray = np.ndarray[Any, np.dtype[np.float32]]

ROLE = "preprocess"
MODEL_FILE = Path(__file__).parent.parent / "runtimes" / "pillow" / "model.py"
PACKAGES: tuple[str, ...] = ("pillow",)
PIXELS_OUTPUT = "PIXELS"


def signature(settings: PreprocessRecipe) -> Signature:
    image, pixels = TensorSpec(IMAGE_INPUT, "STRING", (1,)), TensorSpec(PIXELS_OUTPUT, "FP32", settings.shape)
    return Signature((image,), (pixels,))


def function(settings: PreprocessRecipe) -> Callable[[bytes], FloatArray]:
    """Encoded bytes -> float32 [C, H, W]. What it gives raises ValueError for what the recipe refuses."""
    return model_of(settings.model_dump())


def model_of(recipe: dict[str, Any]) -> Callable[[bytes], FloatArray]:
    """Of a recipe as a published config has it, which may be older than some keys."""
    from builder.runtimes.pillow import model

    return model.Preprocess(recipe)
