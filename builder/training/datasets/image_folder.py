"""A folder a class, of image files; or two such folders, to train with and to hold out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from builder.data.images import images_below
from builder.data.labels import is_text
from builder.errors import DataError
from builder.training.data import LabelledImages, Split, from_file, stratified
from builder.training.spec import Data

TRAIN = "train"
HELDOUT = ("val", "valid", "validation", "heldout", "test")


def load(data: Data, base: Path, seed: int) -> Split:
    if data.root is None:
        raise DataError("image_folder needs `root: DIR` or --root DIR, with a folder of images for each class")
    root = (base / data.root).expanduser()
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; correct `root:`")
    apart = next((root / name for name in HELDOUT if (root / name).is_dir()), None)
    if (root / TRAIN).is_dir() and apart:
        train, labels = _read(root / TRAIN)
        heldout, _ = _read(apart, labels)
    else:
        every, labels = _read(root)
        numbers = stratified(every.classes, data.validation, seed, labels)
        train, heldout = (every.subset(part) for part in numbers)
    return Split("image_folder", train, heldout, labels, _digest(root, (train, heldout)), {"root": root.name})


def _read(root: Path, known: Sequence[str] | None = None) -> tuple[LabelledImages, tuple[str, ...]]:
    """The images of every class, and the labels; those that are `known` may have no images here. Raises DataError."""
    labels = _labels(root, known)
    files = {label: images_below(root / label) if (root / label).is_dir() else [] for label in labels}
    empty = [label for label in labels if not files[label]]
    if empty and known is None:
        raise DataError(f"{root} has classes without images: {', '.join(empty)}; put some there, or remove the folders")
    items = [file for label in labels for file in files[label]]
    if not items:
        raise DataError(f"there are no images in {root}")
    classes = [number for number, label in enumerate(labels) for _ in files[label]]
    return LabelledImages(items, classes, from_file, are_files=True), labels


def _labels(root: Path, known: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the folders, sorted, or those that are known already. Raises DataError."""
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    unreadable = [path.name for path in folders if not is_text(path.name)]
    if unreadable:
        raise DataError(
            f"{root} has a folder whose name is no UTF-8, {unreadable[0]!r}, and so is no label; rename it, "
            "as convmv does for whole trees"
        )
    labels = tuple(known or (path.name for path in folders))
    strange = [path.name for path in folders if path.name not in labels]
    if strange:
        raise DataError(f"{root} has classes that are not trained: {', '.join(strange)}; take them away, or train them")
    if len(labels) < 2:
        raise DataError(f"{root} has {len(labels)} folders; it needs one for each of two classes or more")
    return labels


def _digest(root: Path, parts: Sequence[LabelledImages]) -> str:
    """SHA-256 of the files' names and sizes: reading all contents would take as long as an epoch."""
    lines = [f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n" for part in parts for path in part.items]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
