"""Encoded images in, normalised float32 NCHW tensors out: the served half of a preprocess recipe.

Published into the repository as the `model.py` of a python-backend model, so it needs nothing but
NumPy and Pillow, and runs embedded as well as in NVIDIA's image. Its tensors equal those of
torchvision's transforms on the Pillow image to the last bit: the arithmetic below follows
`torchvision.transforms.functional` (`resize`, `center_crop`, `convert_image_dtype`, `normalize`).
"""

import io
import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

FloatArray = np.ndarray[Any, np.dtype[np.float32]]

# What people upload. Left out on purpose: formats whose Pillow readers start other programs (EPS),
# or are rare enough that they only widen what a hostile upload can reach.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")


class ImageError(ValueError):
    """The sender's image is at fault, not the server."""


class Preprocess:
    """One recipe, ready to run. Calling it maps encoded bytes to a float32 [C, H, W] array."""

    def __init__(self, recipe: dict[str, Any]) -> None:
        self._recipe = recipe
        self._mode = {1: "L", 3: "RGB"}[recipe["channels"]]
        self._resample = Image.Resampling[recipe["interpolation"].upper()]
        self._tables = _value_tables(recipe)

    @property
    def shape(self) -> tuple[int, ...]:
        """[C, H, W] of the tensor."""
        return (self._recipe["channels"], *(self._recipe["crop"] or self._recipe["resize"]))

    def __call__(self, data: bytes) -> FloatArray:
        pixels = np.asarray(self.crop(self.resize(self.decode(data))))
        planes = pixels.reshape(*pixels.shape[:2], -1)
        tensor = np.empty(self.shape, np.float32)
        for channel, table in enumerate(self._tables):
            np.take(table, planes[..., channel], out=tensor[channel], mode="clip")
        return tensor

    def decode(self, data: bytes) -> Image.Image:
        """Encoded bytes -> Pillow image in the recipe's mode. Raises ImageError."""
        if not data:
            raise ImageError("the image is empty (0 bytes)")
        if len(data) > self._recipe["max_bytes"]:
            raise ImageError(f"the image has {len(data)} bytes; at most {self._recipe['max_bytes']} are accepted")
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                self._check_pixels(image.size, "the image")
                return image.convert(self._mode)
        except ImageError:
            raise
        except UnidentifiedImageError:
            raise ImageError(f"not an image in a known format ({', '.join(FORMATS)})") from None
        except Exception as error:  # on broken files Pillow's readers raise whatever they stumble over
            raise ImageError(f"the image cannot be decoded: {error}") from None

    def _check_pixels(self, size: tuple[int, int], what: str) -> None:
        width, height = size
        if width < 1 or height < 1:
            raise ImageError(f"{what} is {width}x{height}: it has no pixels")
        if width * height > self._recipe["max_pixels"]:
            raise ImageError(f"{what} is {width}x{height}; at most {self._recipe['max_pixels']} pixels are accepted")

    def resize(self, image: Image.Image) -> Image.Image:
        if self._recipe["resize"] is None:
            return image
        size = _resized(image.size, self._recipe["resize"])
        # A 1x5000 image is small, but resized by its shorter side it is enormous.
        self._check_pixels(size, "the resized image")
        return image.resize(size, self._resample)

    def crop(self, image: Image.Image) -> Image.Image:
        if self._recipe["crop"] is None:
            return image
        height, width = self._recipe["crop"]
        image = _pad(image, width, height)
        # round() is half-to-even here as in torchvision.
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        return image.crop((left, top, left + width, top + height))


def _value_tables(recipe: dict[str, Any]) -> list[FloatArray]:
    """For each channel the float32 that each of the 256 pixel values becomes."""
    values = np.arange(256, dtype=np.float32) / np.float32(255)
    mean = np.asarray(recipe["mean"], np.float32)
    std = np.asarray(recipe["std"], np.float32)
    return [(values - mean[c]) / std[c] for c in range(recipe["channels"])]


def _resized(size: tuple[int, int], target: tuple[int, ...]) -> tuple[int, int]:
    """(width, height) after resizing: `target` is the shorter side, or [height, width]."""
    if len(target) == 2:
        return target[1], target[0]
    width, height = size
    short, long = sorted(size)
    scaled = int(target[0] * long / short)
    return (target[0], scaled) if width <= height else (scaled, target[0])


def _pad(image: Image.Image, width: int, height: int) -> Image.Image:
    """Black borders where the image is smaller than the crop."""
    if image.width >= width and image.height >= height:
        return image
    canvas = Image.new(image.mode, (max(width, image.width), max(height, image.height)))
    canvas.paste(image, ((canvas.width - image.width) // 2, (canvas.height - image.height) // 2))
    return canvas


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        import triton_python_backend_utils as pb_utils

        self._pb = pb_utils
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._input = config["input"][0]["name"]
        self._output = config["output"][0]["name"]
        self._preprocess = Preprocess(json.loads(parameters["recipe"]))
        # Pillow lets go of the interpreter lock while it decodes and resizes.
        self._pool = ThreadPoolExecutor(int(parameters["threads"]))
        Image.MAX_IMAGE_PIXELS = None  # the recipe's own limit is checked before any pixel is decoded
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata would fill the server's log

    def execute(self, requests: list[Any]) -> list[Any]:
        batches = [self._pb.get_input_tensor_by_name(r, self._input).as_numpy().ravel() for r in requests]
        results = self._pool.map(self._attempt, [data for batch in batches for data in batch])
        return [self._response([next(results) for _ in batch]) for batch in batches]

    def _attempt(self, data: bytes) -> FloatArray | ImageError:
        try:
            return self._preprocess(data)
        except ImageError as error:
            return error

    def _response(self, results: list[FloatArray | ImageError]) -> Any:
        tensors = []
        for index, result in enumerate(results):
            if isinstance(result, ImageError):
                where = f"image {index + 1} of {len(results)}: " if len(results) > 1 else ""
                error = self._pb.TritonError(where + str(result), self._pb.TritonError.INVALID_ARG)
                return self._pb.InferenceResponse([], error)
            tensors.append(result)
        return self._pb.InferenceResponse([self._pb.Tensor(self._output, np.stack(tensors))])

    def finalize(self) -> None:
        self._pool.shutdown()
