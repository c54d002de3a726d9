"""Models of pictures for the fake Triton, which answer every picture alike."""

import io
import json
from collections.abc import Sequence

import numpy as np
from fake_triton import Named
from PIL import Image

IMAGE = {"IMAGE": ("BYTES", [-1, 1])}
NAMES = {"labels": json.dumps(["__background__", "cup", "spoon"])}
MASK = np.uint8([[0, 0, 2, 2], [0, 2, 2, 2]])


def detector(
    boxes: Sequence[Sequence[float]],
    scores: Sequence[float],
    classes: Sequence[int],
    most: int = 4,
    count: int | None = None,
) -> Named:
    padding = most - len(boxes)
    rows = np.zeros((most, 4), np.float32)
    rows[: len(boxes)] = np.reshape(boxes, (-1, 4))
    found = {
        "BOXES": rows,
        "SCORES": np.float32([*scores, *[0] * padding]),
        "CLASSES": np.int32([*classes, *[0] * padding]),
        "COUNT": np.int32([len(boxes) if count is None else count]),
    }
    kinds = {"BOXES": "FP32", "SCORES": "FP32", "CLASSES": "INT32", "COUNT": "INT32"}
    outputs = {name: (kinds[name], [-1, *array.shape]) for name, array in found.items()}
    answer = {name: ([1, *array.shape], array.tobytes()) for name, array in found.items()}
    return Named(IMAGE, outputs, 8, task="detection", parameters=NAMES, answer=lambda _: answer)


def segmenter(mask: np.ndarray = MASK) -> Named:
    """Of the pictures' own size."""
    answer = {"MASK": ([1, *mask.shape], mask.tobytes())}
    outputs = {"MASK": ("UINT8", [-1, -1, -1])}
    return Named(IMAGE, outputs, 8, task="segmentation", parameters=NAMES, answer=lambda _: answer)


def png_segmenter(png: bytes) -> Named:
    answer = {"MASK": ([1, 1], len(png).to_bytes(4, "little") + png)}
    parameters = NAMES | {"encode": "png"}
    outputs = {"MASK": ("BYTES", [-1, 1])}
    return Named(IMAGE, outputs, 8, task="segmentation", parameters=parameters, answer=lambda _: answer)


def embedder(vector: Sequence[float]) -> Named:
    numbers = np.float32(vector)
    answer = {"EMBEDDING": ([1, len(numbers)], numbers.tobytes())}
    outputs = {"EMBEDDING": ("FP32", [-1, len(numbers)])}
    return Named(IMAGE, outputs, 8, task="embedding", parameters={"normalize": "l2"}, answer=lambda _: answer)


def text_embedder(vector: Sequence[float]) -> Named:
    numbers = np.float32(vector)
    answer = {"EMBEDDING": ([1, len(numbers)], numbers.tobytes())}
    outputs = {"EMBEDDING": ("FP32", [-1, len(numbers)])}
    return Named({"TEXT": ("BYTES", [-1, 1])}, outputs, 8, task="text", answer=lambda _: answer)


def palette_png(mask: np.ndarray, colours: Sequence[int]) -> bytes:
    image = Image.fromarray(mask)
    image.putpalette(bytes(colours))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
