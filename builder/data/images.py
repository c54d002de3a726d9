"""Sets of images: folders, whose folders may name classes, and the user's own datasets."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.data.recipe import decoding
from builder.data.sets import ImageSet
from builder.errors import ManifestError
from builder.util.usercode import call, is_callable_name, load_callable

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from builder.data.recipe import PreprocessRecipe

SAMPLES = Path(__file__).parents[1] / "samples"
PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})


@dataclass(frozen=True)
class ImageFile:
    """One encoded image. `truth` is its class, by number or by name, where that is known."""

    name: str
    read: Callable[[], bytes]
    truth: int | str | None = None
    doubt: str = ""
    """Why it is not known which side is up, where EXIF is followed."""

    def decode(self, recipe: PreprocessRecipe) -> Image.Image:
        """Raises ManifestError."""
        from PIL import UnidentifiedImageError

        if self.doubt and recipe.orientation == "exif":
            raise ManifestError(f"{self.name} cannot be used: {self.doubt}")
        try:
            return recipe.decode(io.BytesIO(self.read()))
        except decoding.UnclearImage as error:
            raise ManifestError(f"{self.name} cannot be used: {error}") from None
        except UnidentifiedImageError:
            raise ManifestError(f"{self.name} cannot be decoded: no format that Pillow knows; remove it") from None
        except Exception as error:  # Pillow raises whatever a broken file makes it stumble over
            raise ManifestError(f"{self.name} cannot be decoded: {error}; remove it") from None


def find(images: ImageSet | None, base: Path) -> list[ImageFile]:
    """The set's images in a stable order, or the photos of this package. Raises ManifestError."""
    if images is None:
        return _of_folder(SAMPLES, 1_000)
    if is_callable_name(images.data) and not (base / images.data).exists():
        return _of_dataset(images, base)
    folder = base / Path(images.data).expanduser()
    if not folder.is_dir():
        raise ManifestError(f"{folder} is not a folder; name one with images, or leave the key out")
    return _of_folder(folder, images.samples)


def _of_folder(folder: Path, samples: int) -> list[ImageFile]:
    try:
        files = images_below(folder)
    except OSError as error:
        raise ManifestError(f"{error.filename} cannot be read: {error.strerror}") from None
    if not files:
        raise ManifestError(f"there are no images in {folder}; put some there, or leave the key out")
    chosen = [files[i] for i in spread(len(files), samples)]
    return [ImageFile(str(file), file.read_bytes, _folder_of(file, folder)) for file in chosen]


def images_below(folder: Path) -> list[Path]:
    """Image files, sorted, behind links to folders, too: that is how subsets are made."""
    parents = (*folder.absolute().parents, *folder.resolve().parents)
    files = _files_below(folder, frozenset(os.path.realpath(parent) for parent in parents))
    return sorted(p for p in files if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())


def _files_below(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """`above`: the folders that this one lies in, of which a link may name one again. Raises OSError."""
    real = os.path.realpath(folder)
    if real in above:
        return
    for entry in os.scandir(folder):
        path = folder / entry.name
        if not _is_folder(entry):
            yield path
        elif entry.name != "lost+found":  # the file system's own, which is root's
            yield from _files_below(path, above | {real})


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _folder_of(file: Path, root: Path) -> str | None:
    parts = file.relative_to(root).parts
    return parts[0] if len(parts) > 1 else None


def spread(total: int, wanted: int) -> list[int]:
    """`wanted` of the numbers below `total`, or all, in order and evenly: sorted files are sorted by class."""
    count = min(total, wanted)
    return [i * total // count for i in range(count)]


def _of_dataset(images: ImageSet, base: Path) -> list[ImageFile]:
    function = load_callable(images.data, base, ManifestError)

    def read() -> list[ImageFile]:
        items = _items(function(), images.samples)
        return [_image_file(item, f"{images.data} [{number}]", base) for number, item in items]

    found: list[ImageFile] = call(read, images.data, ManifestError)
    if not found:
        raise ManifestError(f"{images.data} gave no images")
    return found


def _items(dataset: Any, samples: int) -> Iterator[tuple[int, Any]]:
    """Some of a torch dataset's items, or the first of anything that can be iterated."""
    if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__"):
        return ((i, dataset[i]) for i in spread(len(dataset), samples))
    return enumerate(itertools.islice(dataset, samples))


def _image_file(item: Any, name: str, base: Path) -> ImageFile:
    from PIL import Image

    image, truth = item if isinstance(item, tuple | list) and len(item) == 2 else (item, None)
    truth = truth if isinstance(truth, str) or truth is None else int(truth)
    if isinstance(image, str | Path):
        return ImageFile(str(base / image), (base / image).read_bytes, truth)
    if isinstance(image, Image.Image):
        # At once: a dataset may give another image each time, and open ones would be held decoded.
        return ImageFile(name, partial(bytes, _encoded(image)), truth, decoding.doubt_of(image))
    raise ManifestError(f"{name} is a {type(image).__name__}; give files or Pillow images, without a transform")


def _encoded(image: Image.Image) -> bytes:
    """Without loss, of what tells how people see it, too: orientation, and whether there are further frames."""
    from PIL import Image, ImageSequence

    decoding.mend_transparent_colour(image)
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[decoding.EXIF_ORIENTATION] = decoding.orientation_of(image)
    several = decoding.has_frames(image)
    first, *more = [frame.copy() for frame in ImageSequence.Iterator(image)] if several else [image]
    is_png = image.mode in PNG_MODES or decoding.is_sixteen_bits(image)
    first.save(buffer, "PNG" if is_png else "TIFF", exif=exif, save_all=several, append_images=more)
    return buffer.getvalue()


@dataclass(frozen=True)
class View:
    """An image as it is, or turned: few files make many images that way."""

    file: ImageFile
    turn: str = ""

    @property
    def name(self) -> str:
        return f"{self.file.name}{' ' if self.turn else ''}{self.turn}"

    def tensor(self, recipe: PreprocessRecipe, transform: Callable[[Any], torch.Tensor]) -> torch.Tensor:
        from PIL import ImageOps

        turns: dict[str, Callable[[Any], Any]] = {"mirrored": ImageOps.mirror, "upside down": ImageOps.flip}
        image = self.file.decode(recipe)
        return transform(turns[self.turn](image) if self.turn else image)


@dataclass(frozen=True)
class Evaluation:
    """The images that a network and its artifacts are compared on; decoded anew each time they are asked for."""

    views: tuple[View, ...]
    recipe: PreprocessRecipe
    classes: tuple[int | None, ...] = ()
    """The true class of each view, where it is known."""

    def __len__(self) -> int:
        return len(self.views)

    def batches(self, size: int, count: int | None = None) -> Iterator[torch.Tensor]:
        """float32 [size, C, H, W] of the first `count` images; the last batch has what is left."""
        import torch

        transform = self.recipe.reference_transform()
        views = self.views[:count]
        for start in range(0, len(views), size):
            yield torch.stack([view.tensor(self.recipe, transform) for view in views[start : start + size]])


def evaluation(files: Sequence[ImageFile], recipe: PreprocessRecipe, least: int) -> Evaluation:
    """All the images, and turned ones where they are fewer than `least`."""
    turns = itertools.cycle(["", "mirrored", "upside down"])
    views: list[View] = []
    while len(views) < max(least, len(files)):
        turn = next(turns)
        views += [View(file, turn) for file in files]
    return Evaluation(tuple(views[: max(least, len(files))]), recipe)


@dataclass(frozen=True)
class Tensors:
    """Each image as float32 [1, C, H, W], decoded anew each time."""

    files: Sequence[ImageFile]
    recipe: PreprocessRecipe

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[torch.Tensor]:
        transform = self.recipe.reference_transform()
        return (transform(file.decode(self.recipe)).unsqueeze(0) for file in self.files)


def true_classes(evaluation: Evaluation, labels: tuple[str, ...] | None, classes: int) -> tuple[int | None, ...]:
    """The class of each view that is labelled and not turned; empty if none is. Raises ManifestError.

    A name is one of `labels`, or else the class's number; a number is a class.
    """
    known: dict[int | str, int] = {str(i): i for i in range(classes)}
    known |= {label: i for i, label in enumerate(labels or ())}
    known |= {i: i for i in range(classes)}
    truths = _truths(evaluation)
    _refuse_ambiguous(truths, labels or ())
    unknown = sorted(str(truth) for truth in truths if truth not in known)
    if unknown and len(unknown) < len(truths):
        raise ManifestError(
            f"some images lie in folders named by class, but these are no classes: {', '.join(unknown[:5])}; "
            "name the folders by label or by the class's number, or take those folders away"
        )
    if unknown or not truths:
        return ()
    return tuple(None if view.turn or view.file.truth is None else known[view.file.truth] for view in evaluation.views)


def unlabelled(evaluation: Evaluation) -> list[str]:
    """What to say of images whose folders, or names of classes, are no classes of the network; nothing of others."""
    truths = sorted(map(str, _truths(evaluation)))
    if not truths or evaluation.classes:
        return []
    return [
        f"the images lie in folders, or come with classes, that match no label: {', '.join(truths[:5])}"
        f"{', ...' if len(truths) > 5 else ''}; so their accuracy is not known, and labels in a wrong order would not "
        "be seen. Name them exactly as the labels are written, or by the class's number"
    ]


def _truths(evaluation: Evaluation) -> set[int | str]:
    return {view.file.truth for view in evaluation.views if view.file.truth is not None}


def _refuse_ambiguous(truths: set[int | str], labels: tuple[str, ...]) -> None:
    """Raise ManifestError for a name that several classes have, such as ImageNet's two cranes."""
    for name in sorted(str(truth) for truth in truths if isinstance(truth, str)):
        numbers = [str(i) for i, label in enumerate(labels) if label == name]
        if len(numbers) > 1:
            raise ManifestError(
                f"images are labelled {name!r}, and classes {' and '.join(numbers)} are both called so; name their "
                "folder, or their class, by the number"
            )
