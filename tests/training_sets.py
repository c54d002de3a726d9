"""Images made up by the tests, as the files that users have."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle")


def shape(kind: str, generator: np.random.Generator, side: int = 64) -> Image.Image:
    """One filled shape somewhere on a noisy ground, in any colours."""
    ground = generator.integers(0, 90, (side, side, 3), dtype=np.uint8)
    image = Image.fromarray(ground)
    size = int(generator.integers(side // 3, side // 2))
    x, y = (int(value) for value in generator.integers(2, side - size - 2, 2))
    colour = tuple(int(value) for value in generator.integers(140, 255, 3))
    draw = ImageDraw.Draw(image)
    if kind == "circle":
        draw.ellipse((x, y, x + size, y + size), fill=colour)
    elif kind == "square":
        draw.rectangle((x, y, x + size, y + size), fill=colour)
    else:
        draw.polygon([(x, y + size), (x + size, y + size), (x + size // 2, y)], fill=colour)
    return image


def write_shapes(folder: Path, each: int | Sequence[int], seed: int = 0, side: int = 64) -> Path:
    """JPEG files, `each` of a kind, in a folder a kind."""
    generator = np.random.default_rng(seed)
    for kind, count in zip(SHAPES, [each] * len(SHAPES) if isinstance(each, int) else each, strict=True):
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            shape(kind, generator, side).save(folder / kind / f"{number:03}.jpg", quality=92)
    return folder


def idx(array: np.ndarray) -> bytes:
    """As Fashion-MNIST's files are."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_fashion(root: Path, train: int, heldout: int, compressed: bool = False) -> Path:
    """Pictures in the form of Fashion-MNIST: a bar whose place tells the class."""
    root.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(1)
    for prefix, count in (("train", train), ("t10k", heldout)):
        classes = np.arange(count) % 10
        images = generator.integers(0, 60, (count, 28, 28))
        for image, number in zip(images, classes, strict=True):
            image[:, 2 + 2 * number : 5 + 2 * number] = 220
        for name, array in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", classes)):
            content = idx(array)
            (root / (f"{name}.gz" if compressed else name)).write_bytes(
                gzip.compress(content) if compressed else content
            )
    return root
