"""What segmentation keeps of its study for later. It is pickled, so it holds no modules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from builder.data.images import Evaluation, ImageFile
from builder.data.recipe import PreprocessRecipe
from builder.data.recipe.placing import Placement
from builder.steps.mask import MaskSettings


@dataclass(frozen=True)
class Details:
    recipe: PreprocessRecipe
    settings: MaskSettings
    files: list[ImageFile]
    images: Evaluation
    """What the network was run on."""
    placements: tuple[Placement, ...]
    """Where each view lies in the network's input."""
    masks: tuple[Path | None, ...]
    """The true mask of each view, where there is one."""
    examples: tuple[bytes, ...]
    """Photos whose masks are decided."""
