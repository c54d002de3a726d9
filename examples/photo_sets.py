"""Real photos that packages bring along, and crops of them: sets of images of one's own for a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import sklearn.datasets
from PIL import Image, ImageOps

import builder

SAMPLES = Path(builder.__file__).parent / "samples"
SCIKIT = Path(sklearn.datasets.__file__).parent / "images"
PHOTOS = (
    SAMPLES / "chelsea.jpg",
    SAMPLES / "coffee.jpg",
    SCIKIT / "flower.jpg",
    SCIKIT / "china.jpg",
    SAMPLES / "rocket.jpg",
    SAMPLES / "astronaut.jpg",
)
CREDITS = {
    "chelsea.jpg": "Stéfan van der Walt, CC0",
    "coffee.jpg": "Rachel Michetti, CC0",
    "flower.jpg": "vultilion, CC BY 2.0",
    "china.jpg": "danielbuechele, CC BY 2.0",
    "rocket.jpg": "SpaceX, public domain",
    "astronaut.jpg": "NASA, public domain",
}


def calibration() -> list[Image.Image]:
    """16 crops of each photo, of which int8 learns its ranges; other ones than those that it is judged by."""
    return [crop for number, photo in enumerate(PHOTOS) for crop in crops(photo, 16, seed=100 + number)]


def evaluation() -> list[Path | Image.Image]:
    """The photos, and 9 crops of each. Too few and too alike to tell an accuracy: they tell what int8 changes."""
    return [*PHOTOS, *(crop for number, photo in enumerate(PHOTOS) for crop in crops(photo, 9, seed=number))]


def crops(photo: Path, count: int, seed: int) -> Iterator[Image.Image]:
    """Random ones of 40 to 100 % of the area, every second mirrored; the same ones for the same seed."""
    chance = np.random.default_rng(seed)
    with Image.open(photo) as opened:
        image = opened.convert("RGB")
    for number in range(count):
        share = np.sqrt(chance.uniform(0.4, 1))
        width, height = (int(side * share) for side in image.size)
        left, top = (
            int(chance.integers(whole - part + 1)) for whole, part in zip(image.size, (width, height), strict=True)
        )
        crop = image.crop((left, top, left + width, top + height))
        yield ImageOps.mirror(crop) if number % 2 else crop
