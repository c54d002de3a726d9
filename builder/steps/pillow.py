"""Pillow on the CPU, equal to torchvision's transforms to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.data.recipe import PreprocessRecipe

if TYPE_CHECKING:
    import numpy as np

    FloatArray = np.ndarray[Any, np.dtype[np.float32]]

MODEL_FILE = Path(__file__).parent.parent / "runtimes" / "pillow" / "model.py"
PACKAGES: tuple[str, ...] = ("pillow",)


def function(recipe: PreprocessRecipe) -> Callable[[bytes], FloatArray]:
    return model_of(recipe.model_dump())


def model_of(recipe: dict[str, Any]) -> Callable[[bytes], FloatArray]:
    """Of a recipe as a published config has it, which may be older than some keys."""
    from builder.runtimes.pillow import model

    return model.Preprocess(recipe)
