"""A segmenter's answer to the mask that clients get: the served half of the entry's `size` and `encode`.

Published into the repository as the `model.py` of a python-backend model, so it needs nothing but NumPy and Pillow.
What the network gives is led to the size of its input, bilinearly where it is logits; the class is then that of the
largest; and each pixel of the picture gets the class of the pixel of the input that its centre lies in.
"""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, np.dtype[Any]]
MOST_CLASSES = 256
BITS = 8
RUN_LENGTHS = 3
"""zlib's Z_RLE: of masks, whose rows are runs, it makes files as small as its default does, in a part of the time."""


class MaskError(ValueError):
    """Of this answer no mask can be made."""


class Mask:
    """One segmenter's settings, ready to run."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._input = tuple(settings["input"])
        self._is_whole = settings["size"] == "picture"
        self._is_file = settings["encode"] == "png"

    def __call__(self, classes: Array, placement: Array) -> Any:
        """[h, w] or [C, h, w], and int32 [6] -> uint8 [H, W], or bytes."""
        mask = self.of_input(classes)
        mask = of_picture(mask, placement) if self._is_whole else mask
        return encoded(mask) if self._is_file else mask

    def of_input(self, classes: Array) -> Array:
        """uint8 of the size of the network's input. Raises MaskError."""
        if classes.ndim == 3:
            return chosen(blended(classes.astype(np.float32, copy=False), self._input))
        numbers = classes
        if classes.shape != self._input:
            rows, columns = (_nearest(wanted, has) for wanted, has in zip(self._input, classes.shape, strict=True))
            numbers = _taken(classes, rows, columns)
        if numbers.dtype != np.uint8 and numbers.size and (numbers.min() < 0 or numbers.max() >= MOST_CLASSES):
            raise MaskError(f"the network gives class {numbers.max()}, and a mask has classes from 0 to 255")
        mask: Array = numbers.astype(np.uint8, copy=False)
        return mask


def chosen(logits: Array) -> Array:
    """float32 [C, H, W] -> uint8 [H, W]. One channel tells of one class beside the background. Raises MaskError."""
    if not np.isfinite(logits).all():
        raise MaskError("the network gives NaN or infinite logits for this picture")
    if len(logits) == 1:
        return np.asarray(logits[0] > 0, np.uint8)
    largest, mask = logits.max(0), np.empty(logits.shape[1:], np.uint8)
    # Of equal ones the first. argmax over the first axis takes twice as long.
    for number in reversed(range(len(logits))):
        np.copyto(mask, np.uint8(number), where=logits[number] == largest)
    return mask


def blended(logits: Array, size: tuple[int, ...]) -> Array:
    """float32 [C, h, w] -> [C, H, W], between the four nearest, as PyTorch interpolates (align_corners=False)."""
    if logits.shape[1:] == size:
        return logits
    (above, below, down), (before, behind, right) = (
        _neighbours(has, wanted) for has, wanted in zip(logits.shape[1:], size, strict=True)
    )
    rows = logits[:, above] + (logits[:, below] - logits[:, above]) * down[:, None]
    mixed: Array = rows[..., before] + (rows[..., behind] - rows[..., before]) * right
    return mixed


def _neighbours(length: int, wanted: int) -> tuple[Array, Array, Array]:
    at = (np.arange(wanted, dtype=np.float32) + np.float32(0.5)) * np.float32(length / wanted) - np.float32(0.5)
    at = np.maximum(at, np.float32(0))
    first = np.minimum(at.astype(np.int64), length - 1)
    return first, np.minimum(first + 1, length - 1), (at - first).astype(np.float32)


def of_picture(mask: Array, placement: Array) -> Array:
    """The part of the mask that the picture lies in, at the picture's own size."""
    high, wide, top, left, height, width = (int(number) for number in placement)
    rows = np.clip(top + _nearest(high, height), 0, mask.shape[0] - 1)
    columns = np.clip(left + _nearest(wide, width), 0, mask.shape[1] - 1)
    return _taken(mask, rows, columns)


def _taken(mask: Array, rows: Array, columns: Array) -> Array:
    """Columns first: rows are then copied whole, which is many times faster where there are more of them."""
    return mask.take(columns, 1).take(rows, 0)


def _nearest(wanted: int, length: int) -> Array:
    """In whole numbers: which of `length` pixels each of `wanted` has its centre in."""
    indices: Array = (2 * np.arange(wanted, dtype=np.int64) + 1) * length // (2 * wanted)
    return indices


def encoded(mask: Array) -> bytes:
    """A PNG of a palette, whose indices are the classes."""
    image = Image.fromarray(mask).convert("L")
    image.putpalette(PALETTE)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_type=RUN_LENGTHS)
    return buffer.getvalue()


def _palette() -> bytes:
    """Red, green and blue of 256 classes, far apart for those that follow each other: each third bit of the class's
    number is one of a colour's, the first ones the most significant, as PASCAL VOC colours its masks."""
    colours = [
        sum((number >> (3 * bit + channel) & 1) << (BITS - 1 - bit) for bit in range(BITS))
        for number in range(MOST_CLASSES)
        for channel in range(3)
    ]
    return bytes(colours)


PALETTE = _palette()


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        import triton_python_backend_utils as pb_utils

        self._pb = pb_utils
        config = json.loads(args["model_config"])
        parameters = config["parameters"]
        self._classes, self._placement = (tensor["name"] for tensor in config["input"])
        self._output = config["output"][0]["name"]
        self._mask = Mask(json.loads(parameters["recipe"]["string_value"]))
        self._pool = ThreadPoolExecutor(int(parameters["threads"]["string_value"]))

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answered(request) for request in requests]

    def _answered(self, request: Any) -> Any:
        classes, placements = (
            self._pb.get_input_tensor_by_name(request, name).as_numpy() for name in (self._classes, self._placement)
        )
        try:
            return self._response(list(self._pool.map(self._mask, classes, placements)))
        except MaskError as error:
            return self._refused(str(error))

    def _response(self, masks: list[Any]) -> Any:
        if isinstance(masks[0], bytes):
            return self._given(np.array(masks, np.object_)[:, None])
        if len({mask.shape for mask in masks}) > 1:
            sizes = ", ".join(sorted({"x".join(map(str, mask.shape[::-1])) for mask in masks}))
            return self._refused(
                f"the pictures of one request have different sizes ({sizes}), and one tensor holds masks of one size; "
                "send one picture a request, or serve the masks with `encode: png` or `size: network`"
            )
        return self._given(np.stack(masks))

    def _given(self, masks: Array) -> Any:
        return self._pb.InferenceResponse([self._pb.Tensor(self._output, masks)])

    def _refused(self, message: str) -> Any:
        return self._pb.InferenceResponse([], self._pb.TritonError(message, self._pb.TritonError.INVALID_ARG))

    def finalize(self) -> None:
        self._pool.shutdown()
