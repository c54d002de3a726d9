"""A segmenter's classes in, masks out: one class a pixel, of the picture's own size, as numbers or as a PNG.

Published into the repository as the `model.py` of a python-backend model, so it needs nothing but NumPy, and Pillow
where masks are encoded. Each pixel of a picture gets the class of the network's pixel that its middle lies in.
"""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
PLACEMENT = "PLACEMENT"
COLOURS = 256


class Masker:
    """What the network gives for one picture, and its placement -> uint8 [H, W], or a PNG's bytes."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._rows, self._columns = settings["network_size"]
        self._is_own_size = settings["size"] == "picture"
        self._encodes = settings["encode"] == "png"

    def __call__(self, given: Array, placement: Array) -> Any:
        found = classes(given)
        whole = self._of_picture(found, placement) if self._is_own_size else self._of_network(found)
        return png(whole) if self._encodes else whole

    def _of_picture(self, found: Array, placement: Array) -> Array:
        height, width, top, left, high, wide = (int(number) for number in placement)
        rows = self._nearest(height, high, top, found.shape[0], self._rows)
        columns = self._nearest(width, wide, left, found.shape[1], self._columns)
        return np.asarray(found[rows[:, None], columns[None, :]])

    def _of_network(self, found: Array) -> Array:
        rows = self._nearest(self._rows, self._rows, 0, found.shape[0], self._rows)
        columns = self._nearest(self._columns, self._columns, 0, found.shape[1], self._columns)
        return np.asarray(found[rows[:, None], columns[None, :]])

    def _nearest(self, wanted: int, length: int, start: int, available: int, of: int) -> Array:
        """Of `wanted` pixels over `length` ones from `start`, which of the `available` ones each lies in.

        In whole numbers, so that no rounding moves a pixel. `of`: the network's input has so many.
        """
        middle = (2 * np.arange(wanted, dtype=np.int64) + 1) * length + 2 * wanted * start
        return np.minimum(middle * available // (2 * wanted * of), available - 1)


def classes(given: Array) -> Array:
    """Classes [H, W] as they are, or of scores [C, H, W] the best; of one channel, whether it is above 0."""
    if given.ndim == 2:
        return given.astype(np.uint8, copy=False)
    best = given[0] > 0 if len(given) == 1 else given.argmax(0)
    return np.asarray(best.astype(np.uint8))


def palette() -> bytes:
    """Red, green and blue of 256 classes, black for 0: the bits of a class's number, the lowest in the highest bits."""
    return bytes(level for number in range(COLOURS) for level in colour(number))


def colour(number: int) -> tuple[int, int, int]:
    levels = [0, 0, 0]
    for bit in range(8):
        levels[bit % 3] |= (number >> bit & 1) << (7 - bit // 3)
    return levels[0], levels[1], levels[2]


def png(mask: Array) -> bytes:
    """A picture of palette colours, whose numbers are the classes."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(mask)).convert("L")
    coloured = Image.frombytes("P", picture.size, picture.tobytes())
    coloured.putpalette(palette())
    buffer = io.BytesIO()
    coloured.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        import triton_python_backend_utils as pb_utils

        self._pb = pb_utils
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._input = next(one["name"] for one in config["input"] if one["name"] != PLACEMENT)
        self._output = config["output"][0]["name"]
        self._masker = Masker(json.loads(parameters["recipe"]))
        self._pool = ThreadPoolExecutor(int(parameters["threads"]))

    def execute(self, requests: list[Any]) -> list[Any]:
        pairs = [tuple(self._given(request, name) for name in (self._input, PLACEMENT)) for request in requests]
        ones = [one for pair in pairs for one in zip(*pair, strict=True)]
        masks = self._pool.map(lambda one: self._masker(*one), ones)
        return [self._response([next(masks) for _ in placements]) for _, placements in pairs]

    def _given(self, request: Any, name: str) -> Any:
        return self._pb.get_input_tensor_by_name(request, name).as_numpy()

    def _response(self, masks: list[Any]) -> Any:
        if isinstance(masks[0], bytes):
            return self._answer(np.array(masks, np.object_).reshape(-1, 1))
        if len({mask.shape for mask in masks}) > 1:
            sizes = ", ".join(sorted({f"{mask.shape[1]}x{mask.shape[0]}" for mask in masks}))
            message = f"the pictures of one request must have one size for their masks to be one tensor: {sizes}"
            error = self._pb.TritonError(f"{message}; send them one by one", self._pb.TritonError.INVALID_ARG)
            return self._pb.InferenceResponse([], error)
        return self._answer(np.stack(masks))

    def _answer(self, masks: Array) -> Any:
        return self._pb.InferenceResponse([self._pb.Tensor(self._output, masks)])

    def finalize(self) -> None:
        self._pool.shutdown()
