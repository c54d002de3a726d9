"""Image files."""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from client.errors import UnreadableFile
from client.types import AnyImage, Image

# What the server's decoder knows.
SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"}
    | {".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)


def read_image(image: Image) -> bytes:
    """The encoded bytes. Raises UnreadableFile."""
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise UnreadableFile(f"{image}: {error.strerror}") from None
    except ValueError as error:  # a NUL in the name
        raise UnreadableFile(f"{str(image)!r}: {error}") from None


@functools.cache
def gray_picture() -> bytes:
    """A PNG that every image classifier takes: to be told its classes, or whether anybody is answered at all."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (64, 64), "gray").save(file, "PNG")
    return file.getvalue()


def grouped(images: Iterable[AnyImage], size: int) -> Iterator[list[AnyImage]]:
    iterator = iter(images)
    while group := list(itertools.islice(iterator, size)):
        yield group
