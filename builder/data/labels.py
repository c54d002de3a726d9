"""Named sets of labels, for `labels: imagenet`: a set is a function, and one line in SETS."""

from __future__ import annotations

import difflib
from collections.abc import Callable


def imagenet() -> tuple[str, ...]:
    """The 1,000 classes of ILSVRC 2012, as torchvision names them."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def coco() -> tuple[str, ...]:
    """The 91 classes of torchvision's detectors, the background and those that COCO left out (N/A) included."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    return tuple(FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"])


def fashion_mnist() -> tuple[str, ...]:
    from torchvision.datasets import FashionMNIST

    return tuple(FashionMNIST.classes)


def digits() -> tuple[str, ...]:
    return ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


SETS: dict[str, Callable[[], tuple[str, ...]]] = {
    "imagenet": imagenet,
    "coco": coco,
    "fashion_mnist": fashion_mnist,
    "digits": digits,
}


def is_text(name: str) -> bool:
    """Whether a label can be made of a file's or folder's name, which may be in any encoding."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_word(text: str) -> bool:
    """Whether `text` looks like a set's name: a path has a slash, a file's name a suffix."""
    return "/" not in text and "." not in text


def unknown(text: str) -> str:
    """What to tell of a word that is neither a set nor a file."""
    close = difflib.get_close_matches(text.lower(), SETS, 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return (
        f"{text!r} is neither a set of labels nor a file beside the manifest; the sets are {', '.join(SETS)}; "
        f"a file has one label a line{hint}"
    )
