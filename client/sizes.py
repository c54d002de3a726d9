"""Images and texts within what a model takes: others are refused before they are read, or sent."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from client.errors import InvalidInput, TooLarge
from client.images import read_image
from client.types import Image, Item, Text


def read_within(item: Item, most: int | None) -> bytes:
    """The encoded bytes. Raises TooLarge, UnreadableFile, and InvalidInput for what is no text."""
    if isinstance(item, Text):
        return _encoded(item, most)
    if most is not None:
        refuse_beyond(most, _size(item), item)
    data = read_image(item)
    if most is not None:
        refuse_beyond(most, len(data), item)  # it grew meanwhile, or did not tell
    return data


def is_at_hand(item: Item) -> bool:
    """Whether no file is to be read for it."""
    return isinstance(item, (bytes, Text))


def refuse_beyond(most: int, size: int, image: Image) -> None:
    """In the words of the server. Raises TooLarge."""
    if size > most:
        where = "" if isinstance(image, bytes) else f"{image}: "
        raise TooLarge(f"{where}the image has {size} bytes; at most {most} are accepted")


def _encoded(text: Text, most: int | None) -> bytes:
    """UTF-8, which it is."""
    if not isinstance(text.content, (str, bytes)):
        kind = type(text.content).__name__
        raise InvalidInput(f"{text.where}: texts are str, or bytes of UTF-8, and this is of the type {kind}")
    try:
        data = text.content.encode() if isinstance(text.content, str) else text.content
        size = len(data) + text.left_out
        if text.left_out or (most is not None and size > most):
            limit = len(data) if most is None else most
            raise TooLarge(f"{text.where}: the text has {size} bytes; at most {limit} are accepted")
        data.decode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{text.where}: character {error.start} of the text is half a pair (a surrogate), which UTF-8 has not"
        ) from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{text.where}: the text is no UTF-8 from byte {error.start} on") from None
    return data


def _size(image: Image) -> int:
    if isinstance(image, bytes):
        return len(image)
    with suppress(OSError, ValueError):  # which reading tells better
        return Path(image).stat().st_size
    return 0
