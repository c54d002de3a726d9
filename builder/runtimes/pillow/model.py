"""Encoded images in, normalised float32 NCHW tensors out: the served half of a preprocess recipe.

Published into the repository as the `model.py` of a python-backend model, so it needs nothing but
NumPy and Pillow, and runs embedded as well as in NVIDIA's image. Its tensors equal those of
torchvision's transforms on the Pillow image to the last bit: the arithmetic below follows
`torchvision.transforms.functional` (`resize`, `center_crop`, `convert_image_dtype`, `normalize`).
The Pillow image is what people see: upright, opaque, with all its grey levels, and alone.
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

# What a recipe means that was written before these keys were there.
DEFAULTS = {
    "orientation": "exif",
    "background": "white",
    "channel_order": "rgb",
    "frames": "single",
    "letterbox": None,
    "antialias": True,
}
# The output that tells where the picture lies in the tensor, for steps behind the network.
PLACEMENT = "PLACEMENT"
COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0)}

# By EXIF's orientation, which says where the first row and column belong.
EXIF_ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# The bits of grey levels that Pillow gives as they are, and their number: 16 everywhere but in some TIFF files.
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0
BYTES = {
    12: ((np.arange(65536) * 255 + 2047) // 4095).clip(max=255).astype(np.uint8),
    16: ((np.arange(65536) + 128) // 257).astype(np.uint8),
}


class ImageError(ValueError):
    """The sender's image is at fault, not the server."""


class Preprocess:
    """One recipe, ready to run. Calling it maps encoded bytes to a float32 [C, H, W] array."""

    def __init__(self, recipe: dict[str, Any]) -> None:
        self._recipe = recipe = DEFAULTS | recipe
        self._mode = {1: "L", 3: "RGB"}[recipe["channels"]]
        self._resample = Image.Resampling[recipe["interpolation"].upper()]
        self._tables = _value_tables(recipe)
        background = recipe["background"]
        self._background = COLOURS.get(background) if isinstance(background, str) else tuple(background)
        """None: transparency is ignored."""
        self._order = slice(None, None, -1 if recipe["channel_order"] == "bgr" else 1)
        self._border = _border(recipe)

    @property
    def shape(self) -> tuple[int, ...]:
        """[C, H, W] of the tensor."""
        box = self._recipe["letterbox"]
        return (self._recipe["channels"], *(box["size"] if box else self._recipe["crop"] or self._recipe["resize"]))

    def __call__(self, data: bytes) -> FloatArray:
        return self.of(self.decode(data))

    def placed(self, data: bytes) -> tuple[FloatArray, "np.ndarray[Any, np.dtype[np.int32]]"]:
        """The tensor, and where the picture lies in it: int32 [6], its own height and width, and then its top, left,
        height and width in the tensor, which may reach beyond it."""
        image = self.decode(data)
        return self.of(image), np.array(self._placement(image), np.int32)

    def of(self, image: Image.Image) -> FloatArray:
        """Pillow image in the recipe's mode -> float32 [C, H, W]. Raises ImageError."""
        *_, top, left, height, width = self._placement(image)
        # A 1x5000 image is small, but resized by its shorter side it is enormous.
        self._check_pixels((width, height), "the resized image")
        _, rows, columns = self.shape
        down, across = _seen_part(top, height, rows), _seen_part(left, width, columns)
        part = slice(down.start - top, down.stop - top), slice(across.start - left, across.stop - left)
        tensor = np.empty(self.shape, np.float32)
        if (down, across) != (slice(0, rows), slice(0, columns)):
            tensor[...] = self._border[:, None, None]
        self._fill(tensor[:, down, across], image, (height, width), part)
        return tensor

    def _fill(self, tensor: FloatArray, image: Image.Image, size: tuple[int, int], part: tuple[slice, slice]) -> None:
        """Put the part of the resized picture that is wanted into float32 [C, h, w], normalised."""
        is_whole = image.size == size[::-1]
        if not is_whole and not self._recipe["antialias"]:
            blended = _blended(self._planes(image), size, part)
            mean, std = (np.asarray(self._recipe[key], np.float32)[:, None, None] for key in ("mean", "std"))
            np.divide(blended - mean, std, out=tensor)
            return
        down, across = part
        resized = image if is_whole else image.resize(size[::-1], self._resample)
        planes = self._planes(resized.crop((across.start, down.start, across.stop, down.stop)))
        for channel, table in enumerate(self._tables):
            np.take(table, planes[..., channel], out=tensor[channel], mode="clip")

    def _planes(self, image: Image.Image) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        """uint8 [H, W, C], in the order of the recipe."""
        return np.asarray(image).reshape(image.height, image.width, -1)[..., self._order]

    def _placement(self, image: Image.Image) -> tuple[int, int, int, int, int, int]:
        """Height and width of the picture; top, left, height and width of it on the canvas."""
        box, crop = self._recipe["letterbox"], self._recipe["crop"]
        if box:
            width, height = _fitted(image.size, box)
            if box["place"] == "corner":
                return image.height, image.width, 0, 0, height, width
            top, left = (box["size"][0] - height) // 2, (box["size"][1] - width) // 2
            return image.height, image.width, top, left, height, width
        width, height = image.size if self._recipe["resize"] is None else _resized(image.size, self._recipe["resize"])
        if crop is None:
            return image.height, image.width, 0, 0, height, width
        top, left = (_offset(side, wanted) for side, wanted in zip((height, width), crop, strict=True))
        return image.height, image.width, top, left, height, width

    def decode(self, data: bytes) -> Image.Image:
        """Encoded bytes -> Pillow image in the recipe's mode. Raises ImageError."""
        if not data:
            raise ImageError("the image is empty (0 bytes)")
        if len(data) > self._recipe["max_bytes"]:
            raise ImageError(f"the image has {len(data)} bytes; at most {self._recipe['max_bytes']} are accepted")
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                self._check_pixels(image.size, "the image")
                self._check_frames(image)
                return self._seen(image)
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

    def _check_frames(self, image: Image.Image) -> None:
        """A photo's own previews, or its picture for the other eye (MPO), are shown by no viewer."""
        if self._recipe["frames"] == "single" and image.format != "MPO" and getattr(image, "is_animated", False):
            raise ImageError(
                f"the image has several frames ({image.format}), and only one would be looked at; send one"
            )

    def _seen(self, image: Image.Image) -> Image.Image:
        _mend_transparent_colour(image)
        flat = _eight_bits(image)
        if self._background and flat.has_transparency_data:
            flat = _composed(flat, self._background)
        elif isinstance(flat.info.get("transparency"), bytes):
            flat = flat.convert("RGBA")  # Pillow warns of the direct way
        plain = flat.convert(self._mode) if flat is image or flat.mode != self._mode else flat
        turn = _turn(image) if self._recipe["orientation"] == "exif" else None
        return plain if turn is None else plain.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """By EXIF alone: browsers do not follow XMP. Pillow itself turns TIFF files. `image` is loaded."""
    data = image.info.get("exif") if image.format != "TIFF" else None
    if not data:
        return None
    exif = Image.Exif()
    try:
        exif.load(data)
        return TURNS.get(exif.get(EXIF_ORIENTATION, 1))
    except Exception:  # metadata may be anything, and viewers then show what is stored
        return None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey levels of 16 or 12 bits scaled to 8; any other picture as it is. Raises ImageError."""
    is_deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    if image.mode in ("I", "F") and not is_deep:
        kind = {"I": "signed or 32-bit", "F": "floating-point"}[image.mode]
        raise ImageError(
            f"the image has {kind} pixels, of which nobody knows the range; send 8 bits, or 16 without sign"
        )
    if not is_deep:
        return image
    levels = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    table = BYTES[12 if tuple(tags.get(BITS_PER_SAMPLE, ())) == (12,) else 16]
    gray = Image.fromarray(np.take(~table if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else table, levels, mode="clip"))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        gray.putalpha(Image.fromarray((levels != transparent).astype(np.uint8) * np.uint8(255)))
    return gray


def _mend_transparent_colour(image: Image.Image) -> None:
    """Of some PNG files Pillow widens or narrows the pixels, but not the colour that is transparent."""
    form = image.tile[0][3] if image.format == "PNG" and image.tile else ""  # type: ignore[attr-defined]
    colour = image.info.get("transparency")
    if form in ("L;2", "L;4") and isinstance(colour, int):
        image.info["transparency"] = colour * {"L;2": 85, "L;4": 17}[form]
    elif form == "RGB;16B" and isinstance(colour, tuple):
        image.info["transparency"] = tuple(level >> 8 for level in colour)


def _composed(image: Image.Image, background: tuple[int, ...]) -> Image.Image:
    """In one picture more, not three: it may be as large as the recipe allows."""
    layer = image if image.mode == "RGBA" else image.convert("RGBA")
    canvas = Image.new("RGB", layer.size, background)
    canvas.paste(layer, mask=layer)
    return canvas


def _value_tables(recipe: dict[str, Any]) -> list[FloatArray]:
    """For each channel the float32 that each of the 256 pixel values becomes."""
    values = np.arange(256, dtype=np.float32) / np.float32(255)
    mean = np.asarray(recipe["mean"], np.float32)
    std = np.asarray(recipe["std"], np.float32)
    return [(values - mean[c]) / std[c] for c in range(recipe["channels"])]


def _border(recipe: dict[str, Any]) -> FloatArray:
    """float32 [C], normalised: what is around the picture on its canvas."""
    mean, std = np.asarray(recipe["mean"], np.float32), np.asarray(recipe["std"], np.float32)
    fill = (recipe["letterbox"] or {"fill": (0, 0, 0)})["fill"]
    if fill == "mean":
        return np.zeros_like(mean)
    levels = np.asarray(fill, np.float64) / 255
    if recipe["channels"] == 1:
        levels = levels @ np.array([[0.299], [0.587], [0.114]])
    ordered = levels[::-1] if recipe["channel_order"] == "bgr" else levels
    border: FloatArray = (ordered.astype(np.float32) - mean) / std
    return border


def _blended(planes: Any, size: tuple[int, int], part: tuple[slice, slice]) -> FloatArray:
    """uint8 [H, W, C] -> float32 [C, h, w], from 0 to 1: between the four nearest pixels, as PyTorch interpolates."""
    (above, below, down), (before, behind, right) = (
        _neighbours(planes.shape[axis], size[axis], part[axis]) for axis in (0, 1)
    )
    top = _mixed(planes[above], before, behind, right)
    bottom = _mixed(planes[below], before, behind, right)
    mixed: FloatArray = top + (bottom - top) * down[:, None, None]
    return mixed.transpose(2, 0, 1)


def _mixed(rows: Any, before: Any, behind: Any, right: FloatArray) -> FloatArray:
    left, other = (rows[:, columns] / np.float32(255) for columns in (before, behind))
    mixed: FloatArray = left + (other - left) * right[:, None]
    return mixed


def _neighbours(length: int, wanted: int, part: slice) -> tuple[Any, Any, FloatArray]:
    """Of each pixel wanted: the two that it lies between, and how far it is from the first."""
    at = (np.arange(part.start, part.stop, dtype=np.float32) + np.float32(0.5)) * np.float32(length / wanted)
    at = np.maximum(at - np.float32(0.5), np.float32(0))
    first = np.minimum(at.astype(np.int64), length - 1)
    return first, np.minimum(first + 1, length - 1), (at - first).astype(np.float32)


def _fitted(size: tuple[int, int], box: dict[str, Any]) -> tuple[int, int]:
    """(width, height) of a picture on its canvas."""
    width, height = size
    if box["shortest"] is not None:
        scale = min(box["shortest"] / min(size), box["longest"] / max(size))
        return max(1, int(width * scale)), max(1, int(height * scale))
    scale = min(box["size"][0] / height, box["size"][1] / width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _offset(side: int, wanted: int) -> int:
    """Where a side begins in what is cut out of it, which is laid on black first if it is smaller."""
    return max(0, wanted - side) // 2 - round((max(wanted, side) - wanted) / 2)


def _resized(size: tuple[int, int], target: tuple[int, ...]) -> tuple[int, int]:
    """(width, height) after resizing: `target` is the shorter side, or [height, width]."""
    if len(target) == 2:
        return target[1], target[0]
    width, height = size
    short, long = sorted(size)
    scaled = int(target[0] * long / short)
    return (target[0], scaled) if width <= height else (scaled, target[0])


def _seen_part(start: int, side: int, canvas: int) -> slice:
    """What is on the canvas of a side of the picture, which may begin before it and reach beyond."""
    return slice(max(0, start), min(canvas, start + side))


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        import triton_python_backend_utils as pb_utils

        self._pb = pb_utils
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._input = config["input"][0]["name"]
        self._output = config["output"][0]["name"]
        self._is_placed = any(output["name"] == PLACEMENT for output in config["output"])
        self._preprocess = Preprocess(json.loads(parameters["recipe"]))
        # Pillow lets go of the interpreter lock while it decodes and resizes.
        self._pool = ThreadPoolExecutor(int(parameters["threads"]))
        Image.MAX_IMAGE_PIXELS = None  # the recipe's own limit is checked before any pixel is decoded
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata would fill the server's log

    def execute(self, requests: list[Any]) -> list[Any]:
        batches = [self._pb.get_input_tensor_by_name(r, self._input).as_numpy().ravel() for r in requests]
        results = self._pool.map(self._attempt, [data for batch in batches for data in batch])
        return [self._response([next(results) for _ in batch]) for batch in batches]

    def _attempt(self, data: bytes) -> "tuple[Any, ...] | ImageError":
        try:
            return self._preprocess.placed(data) if self._is_placed else (self._preprocess(data),)
        except ImageError as error:
            return error

    def _response(self, results: "list[tuple[Any, ...] | ImageError]") -> Any:
        given: list[tuple[Any, ...]] = []
        for index, result in enumerate(results):
            if isinstance(result, ImageError):
                where = f"image {index + 1} of {len(results)}: " if len(results) > 1 else ""
                error = self._pb.TritonError(where + str(result), self._pb.TritonError.INVALID_ARG)
                return self._pb.InferenceResponse([], error)
            given.append(result)
        names = (self._output, PLACEMENT)
        stacked = (np.stack(tensors) for tensors in zip(*given, strict=True))
        return self._pb.InferenceResponse([self._pb.Tensor(*pair) for pair in zip(names, stacked, strict=False)])

    def finalize(self) -> None:
        self._pool.shutdown()
