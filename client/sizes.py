"""Images within what a model takes: others are refused before they are read."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from client.errors import TooLarge
from client.images import read_image
from client.types import Image


def read_within(image: Image, most: int | None) -> bytes:
    """The encoded bytes. Raises TooLarge, UnreadableFile."""
    if most is not None:
        refuse_beyond(most, _size(image), image)
    data = read_image(image)
    if most is not None:
        refuse_beyond(most, len(data), image)  # it grew meanwhile, or did not tell
    return data


def refuse_beyond(most: int, size: int, image: Image) -> None:
    """In the words of the server. Raises TooLarge."""
    if size > most:
        where = "" if isinstance(image, bytes) else f"{image}: "
        raise TooLarge(f"{where}the image has {size} bytes; at most {most} are accepted")


def _size(image: Image) -> int:
    if isinstance(image, bytes):
        return len(image)
    with suppress(OSError, ValueError):  # which reading tells better
        return Path(image).stat().st_size
    return 0
