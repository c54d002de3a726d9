"""Fashion-MNIST: 70,000 grey images of 28x28 pixels, in four IDX files.

H. Xiao et al., "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms", 2017.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import math
import sys
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

from builder.data import labels
from builder.errors import DataError
from builder.training.data import LabelledImages, Split, as_mode
from builder.training.spec import Data

if TYPE_CHECKING:
    from PIL import Image

    from builder.data.recipe import PreprocessRecipe

DEFAULT_ROOT = Path("~/.cache/torch/datasets")
# Where torchvision and its users put them, below the root.
FOLDERS = ("FashionMNIST/raw", "raw", ".")
SHARES = {"train": "train", "heldout": "t10k"}
UNSIGNED_BYTES = 8


def load(data: Data, base: Path, seed: int) -> Split:
    del seed
    names = labels.fashion_mnist()
    root = (base / (data.root or DEFAULT_ROOT)).expanduser()
    digests = []
    parts = {}
    for share, prefix in SHARES.items():
        images, image_digest = _read(root, f"{prefix}-images-idx3-ubyte", 3, data.download)
        classes, class_digest = _read(root, f"{prefix}-labels-idx1-ubyte", 1, data.download)
        if len(images) != len(classes):
            raise DataError(f"{root}: {prefix} has {len(images)} images and {len(classes)} labels; fetch them again")
        if len(classes) == 0 or classes.max() >= len(names):
            raise DataError(f"{root}: {prefix} has labels beyond the {len(names)} classes, or none")
        parts[share] = LabelledImages(range(len(images)), classes.tolist(), partial(_opened, images))
        digests += [image_digest, class_digest]
    digest = hashlib.sha256("".join(digests).encode()).hexdigest()
    return Split("fashion_mnist", parts["train"], parts["heldout"], names, digest)


def _opened(images: Any, number: int, recipe: PreprocessRecipe) -> Image.Image:
    from PIL import Image

    return as_mode(Image.fromarray(images[number]), recipe)


def _read(root: Path, name: str, dimensions: int, download: bool) -> tuple[Any, str]:
    """uint8 array of an IDX file, plain or gzip, and the SHA-256 of what is in it. Raises DataError."""
    path = _found(root, name) or (_downloaded(root, name) if download else None)
    if path is None:
        raise DataError(
            f"{name}.gz is not in {root}, nor in {', '.join(FOLDERS[:2])} below; put the four files there, or name "
            "another folder with `root:` or --root"
        )
    try:
        content = gzip.decompress(_intact(path)) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; delete it, and fetch it again") from None
    return _parsed(content, dimensions, path), hashlib.sha256(content).hexdigest()


def _found(root: Path, name: str) -> Path | None:
    places = (root / folder / f"{name}{suffix}" for folder in FOLDERS for suffix in ("", ".gz"))
    return next((path for path in places if path.is_file()), None)


def _downloaded(root: Path, name: str) -> Path | None:
    """Fetched by torchvision, which checks it."""
    from torchvision.datasets import FashionMNIST

    try:
        with contextlib.redirect_stdout(sys.stderr):  # it tells what it does
            FashionMNIST(str(root), download=True)
    except (URLError, OSError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise DataError(
            f"Fashion-MNIST cannot be downloaded to {root}: {said} Put {name}.gz and the three others there, or name "
            "the folder that has them with `root:` or --root"
        ) from None
    return _found(root, name)


def _intact(path: Path) -> bytes:
    """The bytes of a compressed file, if they are those that were published."""
    from torchvision.datasets import FashionMNIST

    content = path.read_bytes()
    published = dict(FashionMNIST.resources)[path.name]
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != published:
        raise DataError(f"{path} has the wrong checksum: its MD5 is not {published}; delete it, and fetch it again")
    return content


def _parsed(content: bytes, dimensions: int, path: Path) -> Any:
    """IDX: two zero bytes, the type, the number of dimensions, each as big-endian 32 bits, and the values."""
    import numpy as np

    head = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, UNSIGNED_BYTES, dimensions)) or len(content) < head:
        raise DataError(f"{path} is not an IDX file of {dimensions} dimensions; fetch it again")
    shape = [int(size) for size in np.frombuffer(content[4:head], ">u4")]
    if len(content) - head != math.prod(shape):
        raise DataError(f"{path} is cut short, or has too much: {shape} was announced; fetch it again")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)
