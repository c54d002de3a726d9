"""The served preprocessing equals torchvision's transforms of the recipe, to the last bit."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from torchvision.models import get_model_weights, list_models

from builder.data.recipe import IMAGENET, PreprocessRecipe, recipe_from_transforms
from builder.steps import STEPS

GRAY = PreprocessRecipe(channels=1, resize=(28, 28))
MODES = ["RGB", "L", "P", "CMYK", "1", "YCbCr"]
WITH_ALPHA = ["RGBA", "LA"]
SIZES = [(1, 1), (1, 2), (640, 427), (427, 640), (224, 224), (256, 256), (223, 500), (300, 200), (257, 255), (31, 7)]


def picture(mode: str, size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Blobs, not noise alone: resizing must have something to get wrong."""
    width, height = size
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (max(1, height // 4), max(1, width // 4), 3), np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    return image.convert("L").convert("LA") if mode == "LA" else image.convert(mode)


def encoded(image: Image.Image, **options: Any) -> bytes:
    """As JPEG where JPEG has the mode, as PNG where that has, else as TIFF."""
    format_name = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(image.mode, "PNG")
    buffer = io.BytesIO()
    image.save(buffer, **{"format": format_name, **options})
    return buffer.getvalue()


def reference(data: bytes, recipe: PreprocessRecipe) -> np.ndarray:
    """What a user's own torchvision pipeline makes of the bytes, if nothing in them has to be seen to first.

    What has (orientation, transparency, 16 bits, frames) is in test_seen.py.
    """
    with Image.open(io.BytesIO(data)) as image:
        return recipe.reference_transform()(image.convert("RGB" if recipe.channels == 3 else "L")).numpy()


def as_torchvision(recipe: PreprocessRecipe) -> PreprocessRecipe:
    """Of pictures read by torchvision's ImageFolder."""
    return recipe.model_copy(update={"orientation": "stored", "background": "stored", "frames": "first"})


@pytest.fixture(params=[name for name in STEPS if name.startswith("pillow")])  # those that see pictures
def preprocessor(request: pytest.FixtureRequest) -> Any:
    return STEPS[request.param]


def assert_equal(preprocessor: Any, data: bytes, recipe: PreprocessRecipe) -> None:
    assert is_equal(preprocessor, data, recipe)


def is_equal(preprocessor: Any, data: bytes, recipe: PreprocessRecipe) -> bool:
    """To the last bit. Where CI is set, pytest would draw the difference of two long strings for minutes."""
    given, expected = preprocessor.function(recipe)(data), reference(data, recipe)
    served = given[0] if isinstance(given, tuple) else given  # and where the picture lies in it
    return served.dtype == expected.dtype == np.float32 and bool(served.tobytes() == expected.tobytes())


@pytest.mark.parametrize("recipe", [IMAGENET, GRAY], ids=["imagenet", "gray"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", [*MODES, *WITH_ALPHA])
def test_modes_and_sizes(preprocessor: Any, mode: str, size: tuple[int, int], recipe: PreprocessRecipe) -> None:
    if mode in WITH_ALPHA:
        recipe = as_torchvision(recipe)
    assert_equal(preprocessor, encoded(picture(mode, size)), recipe)


@pytest.mark.parametrize(
    "options",
    [
        {"format": "JPEG", "progressive": True, "quality": 60},
        {"format": "JPEG", "subsampling": 0},
        {"format": "WEBP", "lossless": True},
        {"format": "GIF"},
        {"format": "BMP"},
        {"format": "TIFF", "compression": "tiff_lzw"},
        {"format": "PPM"},
        {"format": "JPEG2000"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_formats(preprocessor: Any, options: dict[str, Any]) -> None:
    assert_equal(preprocessor, encoded(picture("RGB", (640, 427)), **options), IMAGENET)


@pytest.mark.parametrize("size", [(6000, 4000), (4000, 6000)], ids=str)
def test_large_photos(preprocessor: Any, size: tuple[int, int]) -> None:
    assert_equal(preprocessor, encoded(picture("RGB", size), format="JPEG"), IMAGENET)


def test_orientation_tag_is_ignored_as_by_torchvision_if_the_recipe_says_so(preprocessor: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture("RGB", (64, 48)), format="JPEG", exif=exif)
    assert_equal(preprocessor, data, as_torchvision(IMAGENET))
    assert not is_equal(preprocessor, data, IMAGENET)


side = st.integers(1, 300)
recipes = st.builds(
    lambda channels, resize, crop, interpolation, mean, std: PreprocessRecipe(
        channels=channels,
        resize=resize,
        crop=crop if resize is None or len(resize) == 1 else None,
        interpolation=interpolation,
        mean=tuple(mean[:channels]),
        std=tuple(std[:channels]),
    ),
    st.sampled_from([1, 3]),
    st.one_of(st.none(), st.tuples(side), st.tuples(side, side)),
    st.tuples(side, side),
    st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]),
    st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    st.lists(st.floats(0.01, 4), min_size=3, max_size=3),
)


@settings(max_examples=150, deadline=None)
@given(recipe=recipes, mode=st.sampled_from(["RGB", "L", "P", "RGBA"]), width=side, height=side, seed=st.integers(0, 9))
def test_any_recipe_on_any_picture(recipe: PreprocessRecipe, mode: str, width: int, height: int, seed: int) -> None:
    assert_equal(STEPS["pillow"], encoded(picture(mode, (width, height), seed)), as_torchvision(recipe))


@pytest.mark.parametrize("name", list_models(module=torchvision.models))
def test_recipes_of_all_weights_are_their_transforms(name: str) -> None:
    image = picture("RGB", (640, 427))
    for weights in get_model_weights(name):
        recipe = recipe_from_transforms(weights.transforms())
        assert (recipe.reference_transform()(image) == weights.transforms()(image)).all()
        assert recipe.shape == tuple(weights.transforms()(image).shape)


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header promises a size, and whose pixels compress to nearly nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


GOOD = encoded(picture("RGB", (64, 48)), format="JPEG")
BAD_IMAGES = {
    "empty": (b"", "empty (0 bytes)"),
    "not an image": (b"hello, world", "not an image in a known format"),
    "truncated": (GOOD[: len(GOOD) // 2], "cannot be decoded"),
    "header alone": (GOOD[:20], ""),
    "zero-sized": (png_of(0, 10), ""),
    "bomb": (png_of(100_000, 100_000), "pixels"),
    "too many bytes": (GOOD + b"\0" * (32 * 1024 * 1024), "at most 33554432 are accepted"),
    "sliver": (encoded(picture("RGB", (1, 5000))), "the resized image is 256x1280000"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image in a known format"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images_are_the_senders_fault(preprocessor: Any, case: str) -> None:
    data, message = BAD_IMAGES[case]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        preprocessor.function(IMAGENET)(data)
    assert message in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(position=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255), cut=st.integers(0, len(GOOD)))
def test_damaged_images_give_a_tensor_or_the_senders_fault(position: int, value: int, cut: int) -> None:
    damaged = bytearray(GOOD)
    damaged[position] = value
    try:
        tensor = STEPS["pillow"].function(IMAGENET)(bytes(damaged[: max(cut, 1)]))
    except ValueError:
        return
    assert tensor.shape == IMAGENET.shape


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channels": 3, "resize": 256}, "size would depend on the image"),
        ({"channels": 3}, "size would depend on the image"),
        ({"channels": 3, "crop": 8, "mean": [0.5]}, "mean has 1 numbers for 3 channels"),
        ({"channels": 3, "crop": 8, "std": [0.5, 0.5, 0]}, "std must be greater than 0"),
        ({"channels": 3, "crop": 0}, "greater than or equal to 1"),
    ],
)
def test_impossible_recipes(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PreprocessRecipe.model_validate(values)
