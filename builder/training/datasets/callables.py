"""The user's own: a function that returns a torch dataset, or one to train with and one to hold out."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import DataError
from builder.training.data import LabelledImages, Split, as_mode, from_file, stratified
from builder.training.spec import Data
from builder.util.usercode import call, load_callable

if TYPE_CHECKING:
    from PIL import Image

    from builder.data.recipe import PreprocessRecipe


def load(data: Data, base: Path, seed: int) -> Split:
    function = load_callable(data.set, base, DataError)
    arguments = {"root": base / data.root} if data.root else {}
    given = call(function, data.set, DataError, **arguments)
    both = isinstance(given, tuple | list) and len(given) == 2 and all(hasattr(part, "__getitem__") for part in given)
    train = _images(given[0] if both else given, data.set)
    labels = _labels(given[0] if both else given, train)
    if both:
        heldout = _images(given[1], data.set)
    else:
        numbers = stratified(train.classes, data.validation, seed, labels)
        train, heldout = (train.subset(part) for part in numbers)
    beyond = [c for c in (*train.classes, *heldout.classes) if not 0 <= c < len(labels)]
    if beyond:
        raise DataError(f"{data.set} gave the class {beyond[0]}, and there are {len(labels)} labels")
    digest = hashlib.sha256(repr((len(train), len(heldout), *train.classes, *heldout.classes)).encode()).hexdigest()
    return Split(data.set, train, heldout, labels, digest)


def _images(dataset: Any, name: str) -> LabelledImages:
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise DataError(
            f"{name} gave a {type(dataset).__name__}; give a dataset with a length, of pairs (image, class)"
        )
    if not len(dataset):
        raise DataError(f"{name} gave no images")
    targets = getattr(dataset, "targets", None)
    classes = call(lambda: [int(c) for c in (targets if targets is not None else _classes(dataset))], name, DataError)
    return LabelledImages(range(len(dataset)), classes, partial(_opened, dataset, name))


def _classes(dataset: Any) -> list[int]:
    return [dataset[i][1] for i in range(len(dataset))]


def _opened(dataset: Any, name: str, number: int, recipe: PreprocessRecipe) -> Image.Image:
    from PIL import Image

    image = dataset[number][0]
    if isinstance(image, str | Path):
        return from_file(Path(image), recipe)
    if isinstance(image, Image.Image):
        return as_mode(image, recipe)
    raise DataError(f"{name} [{number}] is a {type(image).__name__}; give files or Pillow images, without a transform")


def _labels(dataset: Any, images: LabelledImages) -> tuple[str, ...]:
    named = getattr(dataset, "classes", None)
    return tuple(map(str, named or range(max(images.classes) + 1)))
