"""Image files."""

from __future__ import annotations

import functools
import io
import itertools
import os
from collections.abc import Iterable, Iterator

from client import files
from client.types import AnyImage, Image


def read_image(image: Image) -> bytes:
    """The encoded bytes. Raises UnreadableFile, at once for what is no file: a pipe would be waited for."""
    return image if isinstance(image, bytes) else files.read(os.fspath(image))


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
