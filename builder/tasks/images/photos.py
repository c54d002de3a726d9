"""Photos of this package, which servers are warmed up with and held to, so that none of the user's is published."""

from __future__ import annotations

from collections.abc import Sequence

from builder.data.images import SAMPLES, ImageFile
from builder.data.recipe import PreprocessRecipe
from builder.steps import STEPS

WARMUP = SAMPLES / "chelsea.jpg"
EXAMPLES = ("chelsea.jpg", "rocket.jpg")
STEP = "pillow"


def warmup(recipe: PreprocessRecipe, files: Sequence[ImageFile]) -> bytes:
    """An encoded image that the recipe accepts; the same one wherever it can be, so that steps are shared."""
    return accepted(recipe, files, (WARMUP.name,))[0]


def accepted(recipe: PreprocessRecipe, files: Sequence[ImageFile], names: Sequence[str] = EXAMPLES) -> list[bytes]:
    """Those of the photos that the recipe accepts, or else the first of `files`, which it did accept."""
    found = [data for name in names if _accepts(recipe, data := (SAMPLES / name).read_bytes())]
    return found or [files[0].read()]


def _accepts(recipe: PreprocessRecipe, data: bytes) -> bool:
    """Not what is larger than its limits."""
    try:
        STEPS[STEP].function(recipe)(data)
    except ValueError:
        return False
    return True
