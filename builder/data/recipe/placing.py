"""Where a picture lies in what its network gets; and recipes whose arithmetic is on tensors, not on Pillow images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from builder.data.recipe import PreprocessRecipe


class Placement(NamedTuple):
    """In pixels, as the served step gives it, INT32 [6]."""

    picture_height: int
    picture_width: int
    """Of the picture as people see it, upright."""
    top: int
    left: int
    """Of the picture in the network's input; below 0 where it is cropped."""
    height: int
    width: int
    """Of the resized picture, which may reach beyond the input."""


def placement(recipe: PreprocessRecipe, width: int, height: int) -> Placement:
    if recipe.letterbox is not None:
        wide, high = recipe.letterbox.resized(width, height)
        left, top = recipe.letterbox.origin(wide, high)
        return Placement(height, width, top, left, high, wide)
    wide, high = _resized(recipe, width, height)
    if recipe.crop is None:
        return Placement(height, width, 0, 0, high, wide)
    # A smaller picture is laid on a black one first, as torchvision does.
    rows, columns = recipe.crop
    padded_top, padded_left = max(0, rows - high) // 2, max(0, columns - wide) // 2
    cut_top, cut_left = round((max(rows, high) - rows) / 2), round((max(columns, wide) - columns) / 2)
    return Placement(height, width, padded_top - cut_top, padded_left - cut_left, high, wide)


def _resized(recipe: PreprocessRecipe, width: int, height: int) -> tuple[int, int]:
    """(width, height), as torchvision's Resize makes it."""
    if recipe.resize is None:
        return width, height
    if len(recipe.resize) == 2:
        return recipe.resize[1], recipe.resize[0]
    (short,) = recipe.resize
    long = int(short * max(width, height) / min(width, height))
    return (short, long) if width <= height else (long, short)


def reference(recipe: PreprocessRecipe) -> Callable[[Image.Image], torch.Tensor]:
    """Pillow image -> float32 [C, H, W], for recipes that torchvision's own transforms do not know."""

    def transform(image: Image.Image) -> torch.Tensor:
        placed = placement(recipe, image.width, image.height)
        pixels = _pixels(recipe, image, placed)
        return _normalised(recipe, _laid(recipe, pixels, placed))

    return transform


def _pixels(recipe: PreprocessRecipe, image: Image.Image, placed: Placement) -> torch.Tensor:
    """float32 [C, height, width] of the resized picture, from 0 to 1."""
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import resize, to_tensor

    size = [placed.height, placed.width]
    if recipe.antialias:
        return torch.as_tensor(to_tensor(resize(image, size, InterpolationMode(recipe.interpolation), antialias=True)))
    plain = torch.as_tensor(to_tensor(image))[None]
    if plain.shape[-2:] == (placed.height, placed.width):
        return plain[0]
    return torch.as_tensor(torch.nn.functional.interpolate(plain, size, mode="bilinear", align_corners=False)[0])


def _laid(recipe: PreprocessRecipe, pixels: torch.Tensor, placed: Placement) -> torch.Tensor:
    """float32 [C, H, W]: the part of the picture that the input has, on the border's colour."""
    import torch

    _, rows, columns = recipe.shape
    canvas = torch.tensor(_border(recipe), dtype=torch.float32)[:, None, None].repeat(1, rows, columns)
    top, left = max(0, placed.top), max(0, placed.left)
    bottom, right = min(rows, placed.top + placed.height), min(columns, placed.left + placed.width)
    seen = pixels[:, top - placed.top : bottom - placed.top, left - placed.left : right - placed.left]
    canvas[:, top:bottom, left:right] = seen
    return canvas


def _border(recipe: PreprocessRecipe) -> list[float]:
    """One number a channel, from 0 to 1, of what is decoded: RGB, whatever order the network takes."""
    if recipe.letterbox is None:
        return [0.0] * recipe.channels
    if recipe.letterbox.fill != "mean":
        red, green, blue = (level / 255 for level in recipe.letterbox.fill)
        # Pillow's own weights of the colours
        return [red, green, blue] if recipe.channels == 3 else [0.299 * red + 0.587 * green + 0.114 * blue]
    return list(recipe.mean[::-1] if recipe.channel_order == "bgr" else recipe.mean)


def _normalised(recipe: PreprocessRecipe, canvas: torch.Tensor) -> torch.Tensor:
    import torch

    ordered = canvas.flip(0) if recipe.channel_order == "bgr" else canvas
    mean, std = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (recipe.mean, recipe.std))
    return torch.as_tensor((ordered - mean) / std)
