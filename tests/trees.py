"""Trees of folders that need care to be made, and to be removed."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def deep(folder: Path, name: str, depth: int) -> Iterator[None]:
    """A new folder with an image, and folders in each other, deeper than the system opens paths.

    They are removed as they were made, step by step: pytest's tidying could not.
    """
    folder.mkdir()
    (folder / "a.png").touch()
    before = os.open(".", os.O_RDONLY)
    with ExitStack() as stack:
        stack.callback(os.close, before)
        stack.callback(os.fchdir, before)
        os.chdir(folder)
        for _ in range(depth):
            Path(name).mkdir()
            os.chdir(name)
        os.fchdir(before)
        stack.callback(_remove, folder, name, depth)
        yield


def _remove(folder: Path, name: str, depth: int) -> None:
    os.chdir(folder)
    for _ in range(depth):
        os.chdir(name)
    for _ in range(depth):
        os.chdir("..")
        Path(name).rmdir()
