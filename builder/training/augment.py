"""Random changes to training images, by torchvision's transforms, around the recipe that serving keeps to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from builder.data.recipe import PreprocessRecipe
from builder.training.spec import Augment

if TYPE_CHECKING:
    import torch
    from PIL import Image

Transform = Callable[["Image.Image"], "torch.Tensor"]


def has_chance(augment: Augment) -> bool:
    return augment != Augment()


def training_transform(recipe: PreprocessRecipe, augment: Augment) -> Transform:
    """Pillow image -> float32 [C, H, W]; without chance, the recipe's own."""
    from torchvision import transforms

    if not has_chance(augment):
        return recipe.reference_transform()
    mode = transforms.InterpolationMode(recipe.interpolation)
    sized = _cropping(recipe, augment, mode) if augment.resized_crop else _sizing(recipe, mode)
    steps = [*sized, *_moving(augment, recipe.shape[1:], mode), *_colouring(augment), *recipe.normalisation()]
    if augment.erase:
        steps.append(transforms.RandomErasing(augment.erase))  # of what the network gets: the rectangle is its mean
    composed: Transform = transforms.Compose(steps)
    return composed


def _cropping(recipe: PreprocessRecipe, augment: Augment, mode: Any) -> list[Any]:
    from torchvision import transforms

    size = recipe.shape[1:]
    return [transforms.RandomResizedCrop(size, augment.resized_crop, interpolation=mode, antialias=True)]


def _colouring(augment: Augment) -> list[Any]:
    from torchvision import transforms

    shares = augment.colour.model_dump()
    return [transforms.ColorJitter(**shares)] if any(shares.values()) else []


def _sizing(recipe: PreprocessRecipe, mode: Any) -> list[Any]:
    from torchvision import transforms

    steps: list[Any] = []
    if recipe.resize is not None:
        steps.append(transforms.Resize(list(recipe.resize), mode, antialias=True))
    if recipe.crop is not None:
        steps.append(transforms.CenterCrop(list(recipe.crop)))
    return steps


def _moving(augment: Augment, size: tuple[int, int], mode: Any) -> list[Any]:
    from torchvision import transforms

    steps: list[Any] = []
    if augment.flip:
        steps.append(transforms.RandomHorizontalFlip(augment.flip))
    if augment.vertical_flip:
        steps.append(transforms.RandomVerticalFlip(augment.vertical_flip))
    if augment.rotate:
        # Pillow turns by nearest, bilinear and bicubic alone.
        turning = mode if mode.value in ("nearest", "bilinear", "bicubic") else type(mode).BILINEAR
        steps.append(transforms.RandomRotation(augment.rotate, turning))
    if augment.shift:
        steps.append(transforms.RandomCrop(size, padding=augment.shift))
    return steps
