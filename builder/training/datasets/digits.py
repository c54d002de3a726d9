"""scikit-learn's handwritten digits: 1797 scans of 8x8 pixels, which ship inside the package."""

from __future__ import annotations

import hashlib
from pathlib import Path

from builder.data import labels
from builder.errors import DataError
from builder.training.data import LabelledImages, Split, as_mode, stratified
from builder.training.spec import Data

LABELS = labels.digits()
WHITE = 16


def load(data: Data, base: Path, seed: int) -> Split:
    del base
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError("the digits come with scikit-learn: pip install scikit-learn") from None
    import numpy as np
    from PIL import Image

    digits = load_digits()
    pixels = np.round(digits.images * 255 / WHITE).astype(np.uint8)
    images = LabelledImages([Image.fromarray(image) for image in pixels], digits.target.tolist(), as_mode)
    train, heldout = stratified(images.classes, data.validation, seed, LABELS)
    digest = hashlib.sha256(pixels.tobytes() + bytes(images.classes)).hexdigest()
    return Split("digits", images.subset(train), images.subset(heldout), LABELS, digest)
