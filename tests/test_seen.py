"""What a network gets of a picture is what people see of it: in training, in the proof, and in the served step."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from builder.data.images import ImageFile, _image_file, find
from builder.data.recipe import PreprocessRecipe, RecipeOverrides
from builder.data.recipe.decoding import UnclearImage
from builder.data.sets import ImageSet
from builder.errors import DataError, ManifestError
from builder.steps import STEPS, pillow, proof
from builder.steps.staging import stage_step
from builder.training.data import LabelledImages, as_mode, from_file, require_decodable

HEIGHT, WIDTH = 6, 7
COLOURS = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
GRAY = COLOURS[..., 0].copy()
PICTURE, SECOND = Image.fromarray(COLOURS), Image.fromarray(COLOURS[::-1].copy())


def recipe(**keys: Any) -> PreprocessRecipe:
    """Of the picture's own size, so that its pixels can be told from the tensor."""
    return PreprocessRecipe.model_validate({"channels": 3, "crop": (HEIGHT, WIDTH)} | keys)


def file(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.copy().save(buffer, form, **options)  # what Pillow's JPEG writer leaves in a picture upsets others
    return buffer.getvalue()


def pixels(tensor: Any) -> np.ndarray:
    return (np.asarray(tensor).transpose(1, 2, 0) * 255).round().astype(np.uint8)


def seen(data: bytes, **keys: Any) -> np.ndarray:
    """uint8 [H, W, C], the same by all ways."""
    wanted = recipe(**keys)
    served = pixels(pillow.function(wanted)(data))
    proved = pixels(wanted.reference_transform()(ImageFile("p", lambda: data).decode(wanted)))
    opened = LabelledImages([Image.open(io.BytesIO(data))], [0], as_mode).image(0, wanted)
    trained = pixels(wanted.reference_transform()(opened))
    assert served.tobytes() == proved.tobytes() == trained.tobytes()
    return served


def assert_refused(data: bytes, message: str, folder: Path) -> None:
    """By the server, by the proof, and by training; each says what to do."""
    with pytest.raises(ValueError, match=rf"^the image has .*{message}.*; send"):
        pillow.function(recipe())(data)
    with pytest.raises(ManifestError, match=rf"^p cannot be used: it.*{message}"):
        ImageFile("p", lambda: data).decode(recipe())
    (folder / "p.bin").write_bytes(data)
    with pytest.raises(DataError, match=rf"1 of 1 images cannot be used.*\n.*p\.bin cannot be decoded: it.*{message}"):
        require_decodable(LabelledImages([folder / "p.bin"], [0], from_file, are_files=True), recipe())


# --- the proof ---

RECIPES = {
    "default": recipe(),
    "gray": recipe(channels=1),
    "bgr": recipe(channel_order="bgr", mean=(0.1, 0.2, 0.3), std=(0.2, 0.3, 0.4)),
    "as torchvision reads": recipe(orientation="stored", background="stored", frames="first"),
    "gray as torchvision reads": recipe(channels=1, orientation="stored", background="stored"),
    "on a colour": recipe(background=(10, 200, 30)),
    "gray on a colour": recipe(channels=1, background=(10, 200, 30)),
    "on black": recipe(background="black", frames="first"),
    "large": PreprocessRecipe(channels=3, resize=(256,), crop=(224, 224), max_bytes=10, max_pixels=10),
}


SEEING = {name: step for name, step in STEPS.items() if name.startswith("pillow")}


@pytest.mark.parametrize("preprocessor", SEEING.values(), ids=SEEING)
@pytest.mark.parametrize("wanted", RECIPES.values(), ids=RECIPES)
def test_reference_and_step_see_what_people_do(wanted: PreprocessRecipe, preprocessor: Any) -> None:
    assert proof.difference(wanted, preprocessor) == ""


class Blind:
    """A step that follows another recipe than it is told."""

    def __init__(self, **changes: Any) -> None:
        self._changes = changes

    def function(self, wanted: PreprocessRecipe) -> Callable[[bytes], Any]:
        return pillow.function(wanted.model_copy(update=self._changes))


class Clipping:
    def function(self, wanted: PreprocessRecipe) -> Callable[[bytes], Any]:
        transform = wanted.reference_transform()
        return lambda data: transform(Image.open(io.BytesIO(data)).convert("RGB")).numpy()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Blind(orientation="stored"), "a PNG of orientation 2"),
        (Blind(background="stored"), "a PNG with alpha"),
        (Blind(background="black"), "a PNG with alpha"),
        (Blind(frames="first"), "a PNG of two images"),
        (Blind(channel_order="bgr"), "a PNG of orientation 1"),
    ],
)
def test_a_step_that_sees_otherwise_is_found_out(step: Any, message: str) -> None:
    assert proof.difference(recipe(), step) == f"the served preprocessing does not see {message} as the recipe says"


def test_a_step_that_clips_is_found_out() -> None:
    found = proof.difference(recipe(orientation="stored"), Clipping())  # type: ignore[arg-type]
    assert "a PNG of 16 bits" in found


# --- orientation ---


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG2000", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_followed_in_every_format(form: str, orientation: int) -> None:
    lossless: dict[str, Any] = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file(PICTURE, form, exif=exif, **lossless.get(form, {}))
    knows_exif = form != "JPEG2000"
    expected = proof.SHOWN[orientation if knows_exif else 1](COLOURS)
    found = seen(data, crop=expected.shape[:2])
    assert np.abs(found.astype(int) - expected).max() <= (8 if form == "AVIF" else 0)


def test_orientation_may_be_as_it_is_stored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.array_equal(seen(file(PICTURE, "PNG", exif=exif), orientation="stored"), COLOURS)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0" + b"\xff" * 40, b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x07"]
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_says_nothing(exif: bytes) -> None:
    data = file(PICTURE, "WEBP", lossless=True, exif=exif)
    assert np.array_equal(seen(data), COLOURS)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_orientations_that_are_none_say_nothing(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert np.array_equal(seen(file(PICTURE, "PNG", exif=exif)), COLOURS)


def test_browsers_do_not_follow_the_orientation_of_xmp() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="3"/></x:xmpmeta>'
    assert np.array_equal(seen(file(PICTURE, "WEBP", lossless=True, xmp=xmp)), COLOURS)


# --- grey levels ---


def deep(kind: str = "<u2") -> Image.Image:
    mode = {"<u2": "I;16", ">u2": "I;16B"}[kind]
    return Image.frombytes(mode, (WIDTH, HEIGHT), (GRAY.astype(np.uint16) * 257).astype(kind).tobytes())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("image", "form", "options"),
    [
        (deep(), "PNG", {}),
        (deep(), "TIFF", {}),
        (deep(">u2"), "TIFF", {}),
        (deep(), "TIFF", {"compression": "tiff_lzw"}),
        (deep(), "PPM", {}),
        (deep(), "JPEG2000", {}),
    ],
    ids=["png", "tiff", "tiff big-endian", "tiff lzw", "pgm", "jpeg2000"],
)
def test_sixteen_bits_are_as_their_copy_of_eight(
    image: Image.Image, form: str, options: dict[str, Any], channels: int
) -> None:
    copy = seen(file(Image.fromarray(GRAY), "PNG"), channels=channels)
    assert np.array_equal(seen(file(image, form, **options), channels=channels), copy)


@pytest.mark.parametrize("level", [0, 1, 128, 129, 255, 256, 4095, 32767, 32768, 65406, 65407, 65535])
def test_levels_between_are_rounded(level: int) -> None:
    data = file(Image.fromarray(np.full((HEIGHT, WIDTH), level, np.uint16)), "PNG")
    assert (seen(data) == round(level / 257)).all()


def png(bits: int, colour: int, size: tuple[int, int], rows: bytes, transparent: bytes = b"") -> bytes:
    """Pillow writes no PNG of so many bits."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0))
    trns = chunk(b"tRNS", transparent) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + head + trns + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_colours_of_sixteen_bits() -> None:
    rows = b"".join(b"\0" + (row.astype(np.uint16) * 257).astype(">u2").tobytes() for row in COLOURS)
    assert np.array_equal(seen(png(16, 2, (WIDTH, HEIGHT), rows)), COLOURS)


@pytest.mark.parametrize(("channels", "colour"), [(1, 4), (3, 6)], ids=["gray", "colours"])
def test_sixteen_bits_with_alpha(channels: int, colour: int) -> None:
    levels = np.concatenate([COLOURS[..., :channels], COLOURS[..., 1:2]], axis=2).astype(np.uint16) * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    expected = over(np.broadcast_to(COLOURS[..., :channels], COLOURS.shape), (255, 255, 255))
    assert np.array_equal(seen(png(16, colour, (WIDTH, HEIGHT), rows)), expected)


def tiff(bits: int, photometric: int, strip: bytes, size: tuple[int, int], sample_format: int = 1) -> bytes:
    """Pillow writes neither 12 bits, nor signed ones, nor 0 for white."""
    tags = {256: size[0], 257: size[1], 258: bits, 259: 1, 262: photometric, 273: 134, 277: 1, 278: size[1]}
    tags |= {279: len(strip), 339: sample_format}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0" * 4 + strip


def test_tiff_of_twelve_bits_is_scaled_by_its_own_range() -> None:
    strip = bytes([0xFF, 0xF0, 0x00, 0x80, 0x08, 0x00])  # 4095, 0, 2048, 2048
    data = tiff(12, 1, strip, (4, 1))
    assert seen(data, crop=(1, 4))[0, :, 0].tolist() == [255, 0, 128, 128]


def test_tiff_whose_white_is_0() -> None:
    data = tiff(16, 0, struct.pack("<3H", 0, 65535, 257), (3, 1))
    assert seen(data, crop=(1, 3))[0, :, 0].tolist() == [255, 0, 254]


@pytest.mark.parametrize(
    ("pixels", "form", "message"),
    [
        (GRAY.astype(np.float32) / 255, "TIFF", "floating-point"),
        (GRAY.astype(np.float32) / 255, "PPM", "floating-point"),
        (GRAY.astype(np.int32), "TIFF", "signed or 32-bit"),
    ],
    ids=["tiff float", "pfm", "tiff 32 bits"],
)
def test_ranges_that_nobody_knows_are_refused(pixels: Any, form: str, message: str, tmp_path: Path) -> None:
    assert_refused(file(Image.fromarray(pixels), form), message, tmp_path)


def test_signed_levels_are_refused(tmp_path: Path) -> None:
    """Of a scanner's measure, such as Hounsfield's."""
    assert_refused(
        tiff(16, 1, struct.pack("<3h", -1000, 0, 400), (3, 1), sample_format=2), "signed or 32-bit", tmp_path
    )


# --- transparency ---

OPACITY = COLOURS[..., 1].copy()


def over(colours: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    share = OPACITY[..., None] / 255
    return np.asarray(np.round(colours * share + np.array(background) * (1 - share)).astype(np.uint8))


@pytest.mark.parametrize(
    ("background", "levels"), [("white", (255,) * 3), ("black", (0,) * 3), ([9, 99, 199], (9, 99, 199))]
)
@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "JPEG2000"])
def test_transparent_pictures_are_seen_on_a_ground(form: str, background: Any, levels: tuple[int, int, int]) -> None:
    image = PICTURE.copy()
    image.putalpha(Image.fromarray(OPACITY))
    data = file(image, form, **({"lossless": True, "exact": True} if form == "WEBP" else {}))
    assert np.array_equal(seen(data, background=background), over(COLOURS, levels))
    assert np.array_equal(seen(data, background="stored"), COLOURS)


def test_opaque_pictures_with_alpha_are_as_without() -> None:
    image = PICTURE.copy()
    image.putalpha(255)
    assert np.array_equal(seen(file(image, "PNG")), COLOURS)


def test_a_transparent_colour_of_a_palette() -> None:
    image = Image.fromarray((GRAY > 128).astype(np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    for form in ("GIF", "PNG"):
        found = seen(file(image, form, transparency=0))
        assert np.array_equal(found, np.where((GRAY > 128)[..., None], (200, 100, 50), (255, 255, 255)))


RARE = (4660, 4660, 4660)


@pytest.mark.parametrize(
    ("bits", "colour", "rows", "transparent", "expected"),
    [
        (1, 0, b"\0\x40", struct.pack(">H", 0), [(255,) * 3, (255,) * 3]),  # black is transparent, white is white
        (2, 0, b"\0\xc0", struct.pack(">H", 3), [(255,) * 3, (0,) * 3]),
        (4, 0, b"\0\x3a", struct.pack(">H", 3), [(255,) * 3, (170,) * 3]),
        (16, 0, b"\0" + struct.pack(">2H", 4660, 257), struct.pack(">H", 4660), [(255,) * 3, (1,) * 3]),
        (16, 2, b"\0" + struct.pack(">6H", *RARE, 0, 0, 257), struct.pack(">3H", *RARE), [(255,) * 3, (0, 0, 1)]),
    ],
    ids=["1 bit", "2 bits", "4 bits", "16 bits", "16 bits, colours"],
)  # fmt: skip
def test_a_transparent_level_of_any_depth(
    bits: int, colour: int, rows: bytes, transparent: bytes, expected: list[tuple[int, ...]]
) -> None:
    data = png(bits, colour, (2, 1), rows, transparent)
    assert [tuple(pixel) for pixel in seen(data, crop=(1, 2))[0].tolist()] == expected


# --- frames ---

FRAMES: dict[str, dict[str, Any]] = {
    "GIF": {},
    "PNG": {},
    "PNG with another first": {"default_image": True},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}


@pytest.mark.parametrize("name", FRAMES)
def test_several_frames_are_refused_or_the_first_is_taken(name: str, tmp_path: Path) -> None:
    form = name.partition(" ")[0]
    first, second = (image.convert("P") if form == "GIF" else image for image in (PICTURE, SECOND))
    data = file(first, form, save_all=True, append_images=[second.copy()], **FRAMES[name])
    assert_refused(data, rf"several frames \({form}\)", tmp_path)
    expected = np.asarray(first.convert("RGB")).astype(int)
    near = 8 if form == "AVIF" else 0
    assert np.abs(seen(data, frames="first") - expected).max() <= near
    alone = file(first, form, **{key: value for key, value in FRAMES[name].items() if key != "default_image"})
    assert np.abs(seen(alone) - expected).max() <= near


def test_what_a_photo_brings_beside_itself_is_no_frame() -> None:
    """Cameras put previews behind a JPEG, and phones a map of its brightness (MPO)."""
    data = file(PICTURE, "MPO", save_all=True, append_images=[SECOND.copy()])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert np.array_equal(seen(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


# --- pictures that were opened already, and those that are written ---


def dataset(folder: Path, body: str) -> ImageFile:
    (folder / "sets.py").write_text(f"from PIL import Image\n\n\ndef make():\n    return [{body}]\n", encoding="utf-8")
    (found,) = find(ImageSet(data="sets.py:make"), folder)
    return found


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_a_dataset_of_opened_pictures_is_as_its_files(form: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"photo.{form.lower()}"
    path.write_bytes(file(PICTURE, form, exif=exif, **({"lossless": True} if form == "WEBP" else {})))
    wanted = recipe(crop=(WIDTH, HEIGHT))
    for body in (f"Image.open({str(path)!r})", repr(str(path))):
        assert np.array_equal(np.asarray(dataset(tmp_path, body).decode(wanted)), proof.SHOWN[6](COLOURS))


@pytest.mark.parametrize("form", ["GIF", "PNG", "TIFF"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the data set leaves its file open
def test_frames_of_opened_pictures_are_not_forgotten(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"two.{form.lower()}"
    path.write_bytes(file(PICTURE, form, save_all=True, append_images=[SECOND.copy()]))
    found = dataset(tmp_path, f"Image.open({str(path)!r})")
    with pytest.raises(ManifestError, match="several frames"):
        found.decode(recipe())
    with Image.open(path) as first:
        assert np.array_equal(np.asarray(found.decode(recipe(frames="first"))), np.asarray(first.convert("RGB")))


def test_a_transparent_level_of_an_opened_picture(tmp_path: Path) -> None:
    path = tmp_path / "four.png"
    path.write_bytes(png(4, 0, (2, 1), b"\0\x3a", struct.pack(">H", 3)))
    found = dataset(tmp_path, f"Image.open({str(path)!r})").decode(recipe())
    assert np.asarray(found)[0, :, 0].tolist() == [255, 170]


def test_ranges_of_datasets_that_nobody_knows(tmp_path: Path) -> None:
    found = dataset(tmp_path, "Image.new('I', (9, 9), 70000)")
    with pytest.raises(ManifestError, match="signed or 32-bit"):
        found.decode(recipe())


@pytest.mark.parametrize("background", ["white", "stored"])
@pytest.mark.parametrize("orientation", ["exif", "stored"])
def test_what_was_seen_is_seen_again_in_a_copy(orientation: str, background: str) -> None:
    """As training writes its samples."""
    exif = Image.Exif()
    exif[0x0112] = 2
    data = file(PICTURE, "PNG", exif=exif, transparency=tuple(COLOURS[0, 0].tolist()))
    keys: dict[str, Any] = {"orientation": orientation, "background": background}
    copy = file(recipe(**keys).decode(io.BytesIO(data)), "PNG")
    assert np.array_equal(seen(copy, **keys), seen(data, **keys))
    assert np.array_equal(seen(copy), seen(copy, **keys))


# --- recipes ---


def test_a_recipe_without_the_keys_means_their_defaults() -> None:
    old = {"channels": 3, "resize": None, "crop": (HEIGHT, WIDTH), "interpolation": "bilinear", "antialias": True}
    old |= {"mean": (0.0,) * 3, "std": (1.0,) * 3, "max_bytes": 1000, "max_pixels": 1000}
    said = PreprocessRecipe.model_validate(old)
    assert (said.orientation, said.background, said.channel_order, said.frames) == ("exif", "white", "rgb", "single")
    image = PICTURE.copy()
    image.putalpha(Image.fromarray(OPACITY))
    served = pillow.model_of(old)(file(image, "PNG"))
    assert np.array_equal(pixels(served), over(COLOURS, (255,) * 3))


MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def test_steps_that_see_otherwise_have_other_names(tmp_path: Path) -> None:
    """A step that is there already is shared by its name alone."""
    keys: list[dict[str, Any]] = [
        *({}, {"orientation": "stored"}, {"background": "black"}, {"background": [1, 2, 3]}, {"background": "stored"}),
        *({"channel_order": "bgr"}, {"frames": "first"}),
    ]
    photo = ImageFile("p", lambda: file(PICTURE, "PNG"))
    names = [stage_step(tmp_path / str(i), pillow, recipe(**key), photo.read(), 1).name for i, key in enumerate(keys)]
    assert len(set(names)) == len(keys)


RIGHT: list[tuple[dict[str, Any], str]] = [
    ({"mean": MEAN, "std": STD}, "say mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]"),
    ({"mean": MEAN}, "0 to 255, and they are from 0 to 1 here: say mean: [0.485, 0.456, 0.406]"),
    ({"mean": [127.5], "std": [127.5]}, "say mean: [0.5], std: [0.5]"),
    ({"mean": [103.53], "std": [1.0]}, "say mean: [0.406], std: [0.00392157]"),
    ({"std": [255]}, "say std: [1]"),
    ({"mean": [0.5], "std": [57.375]}, "say std: [0.225]"),
    ({"mean": [-103.53]}, "say mean: [0.406]"),
    ({"mean": [32767.5], "std": [65535]}, "from 0 to 65535"),
    ({"mean": [1e9]}, "of no scale of pixels"),
    ({"std": [1e-9]}, "as large as 1e+09"),
    ({"std": [float("inf")]}, "finite number"),
    ({"mean": [float("nan")]}, "finite number"),
    ({"std": [0]}, "greater than 0"),
    ({"std": [-0.2]}, "greater than 0"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "message"), RIGHT, ids=lambda value: str(value)[:40])
def test_figures_of_another_scale_are_refused_with_the_right_ones(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        RecipeOverrides.model_validate(values)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"mean": [0.0] * 3, "std": [1 / 255] * 3},
        {"mean": [0.4] * 3, "std": [1 / 65535] * 3},
        {"mean": [127 / 255] * 3, "std": [128 / 255] * 3},
        {"mean": [0], "std": [1]},
    ],
)
def test_figures_that_people_train_with(values: dict[str, Any]) -> None:
    RecipeOverrides.model_validate(values)


def test_weights_of_old_are_served_with_what_they_were_trained_with() -> None:
    odd = recipe(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    assert odd.overridden(RecipeOverrides.model_validate({"max_bytes": 5})).mean == odd.mean


@pytest.mark.parametrize(
    ("resize", "crop", "remark"),
    [
        (28, 32, "crop 32x32 is larger than resize 28: pictures get black borders"),
        ([40, 30], [40, 31], "crop 40x31 is larger than resize 40x30: pictures get black borders"),
        (32, 32, ""),
        (None, 32, ""),
        ([32, 32], None, ""),
    ],
)
def test_crops_beyond_the_picture_are_remarked(resize: Any, crop: Any, remark: str) -> None:
    assert PreprocessRecipe.model_validate({"channels": 3, "resize": resize, "crop": crop}).remark() == remark


def test_unclear_pictures_are_values_that_are_wrong() -> None:
    """So that whoever has long caught what a broken picture raises has caught these."""
    assert issubclass(UnclearImage, ValueError)


@pytest.mark.parametrize("change", [lambda image: image.rotate(270, expand=True), lambda image: image.convert("RGB")])
def test_a_dataset_that_may_have_turned_its_photos_is_asked(change: Callable[[Any], Any], tmp_path: Path) -> None:
    """Pillow keeps EXIF through both, so that it would be followed once more."""
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.open(io.BytesIO(file(PICTURE, "PNG", exif=exif)))
    worked_on = change(photo)
    with pytest.raises(ValueError, match=r"EXIF orientation 6, .*exif_transpose"):
        as_mode(worked_on, recipe())
    assert as_mode(worked_on, recipe(orientation="stored")).size == worked_on.size
    with pytest.raises(ManifestError, match="exif_transpose"):
        _image_file(worked_on, "p", tmp_path).decode(recipe())
    assert _image_file(worked_on, "p", tmp_path).decode(recipe(orientation="stored")).size == worked_on.size
    upright = ImageOps.exif_transpose(photo)
    assert _image_file(upright, "p", tmp_path).decode(recipe()).size == as_mode(upright, recipe()).size == upright.size
