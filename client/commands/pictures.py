"""Where commands put pictures of answers: into one file, or a folder with one for each image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from client.errors import ClientError, InvalidInput, InvalidOption, UnwritableFile
from client.formats import SUFFIXES
from client.images import read_image
from client.types import Outcome

Make = Callable[[bytes, Any], bytes]
"""The image's bytes, and its answer -> a PNG."""


class Place:
    """A path that ends in .png is one file; all others are folders."""

    def __init__(self, path: Path, make: Make) -> None:
        """Raises InvalidInput for the name of another kind of picture."""
        if path.suffix.lower() in SUFFIXES - {".png"} and not path.is_dir():
            raise InvalidOption(f"{path}: pictures are written as PNG; name a .png, or a folder")
        self._path, self._make = path, make
        self._is_file = path.suffix.lower() == ".png" and not path.is_dir()
        self._taken: set[Path] = set()

    def put(self, result: Outcome[str]) -> None:
        """Raises UnwritableFile, and InvalidInput where a second image is to go into one file."""
        if result.error:
            return
        path = self._next(Path(result.image).name)
        picture = self._make(read_image(result.image), result.answer)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture)
        except OSError as error:
            raise UnwritableFile(f"{path}: {error.strerror or error}") from None

    def _next(self, name: str) -> Path:
        """Images of one name, from several folders, are numbered."""
        if self._is_file and self._taken:
            raise InvalidInput(f"{self._path} is one picture, and there are more; name a folder")
        path, number = self._path if self._is_file else self._path / f"{name}.png", 1
        while path in self._taken:
            number += 1
            path = self._path / f"{name}-{number}.png"
        self._taken.add(path)
        return path


def putting(*places: Place | None) -> Callable[[Outcome[str]], Outcome[str]]:
    """Puts what came; an image that cannot be drawn on has that error in place of its answer."""

    def put(result: Outcome[str]) -> Outcome[str]:
        try:
            for place in places:
                if place:
                    place.put(result)
        except UnwritableFile:
            raise
        except ClientError as error:
            return Outcome(result.image, error=error)
        return result

    return put
