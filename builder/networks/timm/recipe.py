"""timm's evaluation transform of a network, said as a recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from builder.data.recipe import PreprocessRecipe

CENTER, SQUASH = "center", "squash"


class NoRecipe(ValueError):
    """It cannot be said; the message says why."""


def resolved(module: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """timm's data configuration of a network, of the channels and the size that it was made for."""
    from timm.data import resolve_model_data_config

    found: dict[str, Any] = dict(resolve_model_data_config(module))
    channels, *size = found["input_size"]
    channels = arguments.get("in_chans") or channels
    own = arguments.get("img_size") or tuple(size)
    height, width = (own, own) if isinstance(own, int) else own
    return found | {"input_size": (channels, height, width)}


def recipe_of(found: Mapping[str, Any]) -> PreprocessRecipe:
    """Of a data configuration, as `timm.data.create_transform(**found)` evaluates it. Raises NoRecipe."""
    channels, *size = found["input_size"]
    if channels not in (1, 3):
        raise NoRecipe(f"it takes pictures of {channels} channels, and files of pictures have 1 or 3")
    return PreprocessRecipe.model_validate(
        {
            "channels": channels,
            "resize": _resize(found, tuple(size)),
            "crop": tuple(size),
            "interpolation": found["interpolation"],
            "mean": _a_channel(found["mean"], channels),
            "std": _a_channel(found["std"], channels),
        }
    )


def _resize(found: Mapping[str, Any], size: tuple[int, ...]) -> tuple[int, ...]:
    """Both sides, or the shorter one alone, before the crop."""
    scaled = tuple(math.floor(side / found["crop_pct"]) for side in size)
    if found["crop_mode"] == SQUASH:
        return scaled
    if found["crop_mode"] != CENTER:
        raise NoRecipe(
            f"timm's crop_mode {found['crop_mode']} lays pictures on a canvas and rounds their sides in a way that no "
            "recipe has"
        )
    if scaled[0] != scaled[1]:
        raise NoRecipe(f"timm's centre crop of {size[0]}x{size[1]} rounds the sides in a way that no recipe has")
    return scaled[:1]


def _a_channel(values: Any, channels: int) -> tuple[float, ...]:
    """One number a channel. Where a network was made for other channels than its weights, timm takes the average."""
    numbers = tuple(float(value) for value in values)
    return numbers if len(numbers) == channels else (sum(numbers) / len(numbers),) * channels
