"""True masks of the evaluation images, read and held to them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from builder.data.images import Evaluation
from builder.errors import ManifestError
from builder.tasks.segmentation.comparison import NO_CLASS
from builder.tasks.segmentation.spec import MaskedSet

if TYPE_CHECKING:
    import torch

SUFFIXES = (".png", ".npy")


def found(images: MaskedSet | None, evaluation: Evaluation, base: Path) -> dict[int, Path]:
    """By the number of a view that is not turned, its mask's file. Raises ManifestError."""
    if images is None or images.masks is None:
        return {}
    masks, data = (base / Path(value).expanduser() for value in (images.masks, images.data))
    if not masks.is_dir():
        raise ManifestError(f"{masks} is not a folder; name one with a mask an image, or leave masks out")
    if not data.is_dir():
        raise ManifestError(f"masks are found by the names of images in a folder, and {images.data} is none")
    return {
        number: _of(Path(view.file.name), data, masks) for number, view in enumerate(evaluation.views) if not view.turn
    }


def _of(image: Path, data: Path, masks: Path) -> Path:
    wanted = masks / image.relative_to(data)
    for suffix in SUFFIXES:
        if (file := wanted.with_suffix(suffix)).is_file():
            return file
    raise ManifestError(f"{image} has no mask: there is neither {wanted.with_suffix('.png')} nor one of .npy")


def read(file: Path, size: tuple[int, int], classes: int) -> torch.Tensor:
    """uint8 [H, W] of this size. Raises ManifestError."""
    import numpy as np
    import torch
    from PIL import Image

    try:
        if file.suffix == ".npy":
            mask = np.load(file, allow_pickle=False)
        else:
            with Image.open(file) as image:
                mask = np.asarray(image if image.mode in ("L", "P", "I;16") else image.convert("L"))
    except Exception as error:  # readers raise whatever a broken file makes them stumble over
        raise ManifestError(f"{file} cannot be read: {error}") from None
    if mask.shape != size or not np.issubdtype(mask.dtype, np.integer):
        raise ManifestError(
            f"{file} is {mask.dtype} {list(mask.shape)}; a mask of its picture is whole numbers {list(size)}"
        )
    highest = int(mask[mask != NO_CLASS].max(initial=0))
    if highest >= classes or mask.min(initial=0) < 0:
        raise ManifestError(f"{file} has class {highest}, and the network has {classes}; {NO_CLASS} is no class")
    return torch.from_numpy(mask.astype(np.uint8))
