"""As `pillow`, and where the picture lies in the tensor, for steps that lead answers back to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from builder.data.recipe import PreprocessRecipe
from builder.steps import pillow
from builder.triton.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

ROLE = pillow.ROLE
MODEL_FILE = pillow.MODEL_FILE
PACKAGES = pillow.PACKAGES
PLACEMENT = TensorSpec("PLACEMENT", "INT32", (6,))
"""See `data.recipe.placing.Placement`."""


def signature(settings: PreprocessRecipe) -> Signature:
    own = pillow.signature(settings)
    return Signature(own.inputs, (*own.outputs, PLACEMENT))


def function(settings: PreprocessRecipe) -> Callable[[bytes], tuple[Array, Array]]:
    """Encoded bytes -> float32 [C, H, W], int32 [6]. What it gives raises ValueError for what the recipe refuses."""
    from builder.runtimes.pillow import model

    return model.Preprocess(settings.model_dump()).placed
