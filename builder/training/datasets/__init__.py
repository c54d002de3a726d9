"""Data sets to train with. A set is a module with what `Dataset` lists."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from builder.errors import ManifestError
from builder.training.data import Split
from builder.training.datasets import callables, digits, fashion_mnist, image_folder
from builder.training.spec import Data
from builder.util.usercode import is_callable_name


class Dataset(Protocol):
    def load(self, data: Data, base: Path, seed: int) -> Split:
        """What to train with and what to hold out; files are relative to `base`. Raises DataError."""


DATASETS: dict[str, Dataset] = {
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "image_folder": image_folder,
    "callables": callables,
}


def own_names() -> list[str]:
    """Those that can be named; the user's own are named as what they are."""
    return [name for name in DATASETS if name != "callables"]


def find(name: str) -> Dataset:
    """Raises ManifestError."""
    if is_callable_name(name):
        return callables
    if name not in own_names():
        known = ", ".join(own_names())
        raise ManifestError(f"there is no data set {name!r}; choose {known}, or your own, path/file.py:callable")
    return DATASETS[name]
