"""The true masks that a user has of the images, and how near masks are to each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.data.images import View
from builder.errors import ManifestError
from builder.tasks.segmentation.classes import MOST_CLASSES

if TYPE_CHECKING:
    import torch

SUFFIXES = (".png", ".npy")
VOID = 255
"""Of a true mask: of no class, as datasets mark the borders of things."""


def masks_of(views: Sequence[View], folder: Path | None) -> tuple[Path | None, ...]:
    """The file of each view that is not turned. Raises ManifestError where there are none."""
    if folder is None:
        return (None,) * len(views)
    if not folder.is_dir():
        raise ManifestError(f"{folder} is not a folder; name one with a mask for each image")
    found = tuple(None if view.turn else _mask_of(Path(view.file.name), folder) for view in views)
    if not any(found):
        wanted = Path(views[0].file.name).stem
        raise ManifestError(f"there is no mask in {folder}; that of {views[0].name} is {wanted}.png or {wanted}.npy")
    return found


def _mask_of(image: Path, folder: Path) -> Path | None:
    return next((path for suffix in SUFFIXES if (path := folder / f"{image.stem}{suffix}").is_file()), None)


def read(path: Path, size: tuple[int, int]) -> torch.Tensor:
    """uint8 [H, W]. Raises ManifestError unless it is of this height and width."""
    import numpy as np
    import torch
    from PIL import Image

    try:
        values = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.asarray(Image.open(path))
    except Exception as error:  # of broken files the readers raise whatever they stumble over
        raise ManifestError(f"the mask {path} cannot be read: {error}") from None
    if values.ndim != 2 or not (np.issubdtype(values.dtype, np.integer) or values.dtype == np.bool_):
        raise ManifestError(f"the mask {path} is {values.dtype} {list(values.shape)}; give whole numbers [H, W]")
    if values.shape != size:
        raise ManifestError(f"the mask {path} is {list(values.shape)}, and its picture {list(size)}; make them equal")
    if values.size and not 0 <= int(values.min()) <= int(values.max()) < MOST_CLASSES:
        raise ManifestError(f"the mask {path} has numbers from {values.min()} to {values.max()}; classes are 0 to 255")
    return torch.from_numpy(values.astype(np.uint8))


class Overlap:
    """Of masks and masks: how often a pixel of one class is of which in the other."""

    def __init__(self) -> None:
        import torch

        self._counts = torch.zeros(MOST_CLASSES * MOST_CLASSES, dtype=torch.int64)

    def add(self, ours: torch.Tensor, theirs: torch.Tensor) -> None:
        """Pixels [N] of both, uint8."""
        import torch

        pairs = ours.long() * MOST_CLASSES + theirs.long()
        self._counts += torch.bincount(pairs, minlength=len(self._counts))

    def mean_iou(self) -> float | None:
        """Mean of the classes that either has of intersection over union; None where nothing was added."""
        counts = self._counts.reshape(MOST_CLASSES, MOST_CLASSES).double()
        both = counts.diagonal()
        union = counts.sum(0) + counts.sum(1) - both
        occurs = union > 0
        return (both[occurs] / union[occurs]).mean().item() if occurs.any() else None
