"""Ways of decoding and resizing on the server. A preprocessor is a module with what `Preprocessor` lists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from builder.data.recipe import PreprocessRecipe
from builder.steps import pillow

if TYPE_CHECKING:
    import numpy as np

    FloatArray = np.ndarray[Any, np.dtype[np.float32]]


class Preprocessor(Protocol):
    MODEL_FILE: Path
    """What is published as the step's model.py."""
    PACKAGES: tuple[str, ...]
    """What that imports beside NumPy, by pip's names. Serving images get the versions that were verified."""

    def function(self, recipe: PreprocessRecipe) -> Callable[[bytes], FloatArray]:
        """What the published file computes: encoded bytes -> float32 [C, H, W]. Raises ValueError."""


PREPROCESSORS: dict[str, Preprocessor] = {"pillow": pillow}
