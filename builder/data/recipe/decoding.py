"""What people see of a picture, as a network gets it: training follows it, and the served step is held to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

    from builder.data.recipe import PreprocessRecipe

COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0)}
# Further pictures of a photo's own: previews, a second eye, a map of brightness. No viewer shows them.
COMPANIONS = "MPO"
EXIF_ORIENTATION = 0x0112
# How a transparent colour is told of pixels that Pillow widens or narrows itself, by the form in the file.
TRANSPARENT_COLOURS: dict[Any, Callable[[int], int]] = {
    "L;2": lambda level: level * 85,
    "L;4": lambda level: level * 17,
    "RGB;16B": lambda level: level >> 8,
}


class UnclearImage(ValueError):
    """Nothing tells how people see it; the message says what they can do."""


def seen(image: Image.Image, recipe: PreprocessRecipe) -> Image.Image:
    """The picture in the recipe's mode, L or RGB, upright and opaque. Raises UnclearImage."""
    if recipe.frames == "single" and has_frames(image):
        raise UnclearImage(
            f"it has several frames ({image.format}), and a network sees one: keep one of them, or say "
            "preprocess: {frames: first} to have the others ignored"
        )
    if recipe.orientation == "exif" and (doubt := doubt_of(image)):
        raise UnclearImage(doubt)
    mend_transparent_colour(image)
    flat = eight_bits(image)
    if recipe.background != "stored" and flat.has_transparency_data:
        flat = _composed(flat, COLOURS.get(str(recipe.background)) or recipe.background)
    elif isinstance(flat.info.get("transparency"), bytes):
        flat = flat.convert("RGBA")  # Pillow warns of the direct way
    plain = flat.convert("L" if recipe.channels == 1 else "RGB")
    orientation = orientation_of(image) if recipe.orientation == "exif" else 1
    plain.info.clear()  # what is done must not be done again to a file that it is written to
    return upright(plain, orientation)


def has_frames(image: Image.Image) -> bool:
    """Whether viewers show more than the first picture of the file."""
    return image.format != COMPANIONS and bool(getattr(image, "is_animated", False))


def orientation_of(image: Image.Image) -> int:
    """EXIF's, 1 to 8; Pillow itself has turned a TIFF. XMP has one, too, which browsers do not follow."""
    from PIL import Image

    image.load()  # a PNG may have it behind the pixels
    data = image.info.get("exif") if image.format != "TIFF" else None
    if not data:
        return 1
    exif = Image.Exif()
    try:
        exif.load(data)
        found = exif.get(EXIF_ORIENTATION, 1)
    except Exception:  # metadata may be anything, and viewers then show what is stored
        return 1
    return found if found in range(1, 9) else 1


def doubt_of(image: Image.Image) -> str:
    """Why it is not known which side is up, of a picture that a user's code has worked on; else nothing.

    Pillow keeps EXIF through rotate(), transpose() and convert(), so that a picture may have been turned already.
    """
    orientation = orientation_of(image) if image.format is None else 1
    if orientation == 1:
        return ""
    return (
        f"it is no longer as it was opened, and still has the EXIF orientation {orientation}, which it may follow by "
        "now or not: give the file, or ImageOps.exif_transpose(image), or say preprocess: {orientation: stored}"
    )


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """As EXIF's orientation means it: stored rows and columns where they belong."""
    from PIL import ImageOps

    if orientation in (5, 6, 7, 8):
        turned: dict[int, Any] = {5: 90, 6: 270, 7: 90, 8: 90}
        image = image.rotate(turned[orientation], expand=True)
    if orientation in (2, 7):
        return ImageOps.mirror(image)
    if orientation in (4, 5):
        return ImageOps.flip(image)
    return image.rotate(180) if orientation == 3 else image


def eight_bits(image: Image.Image) -> Image.Image:
    """Grey levels of more bits as 8, the whole range scaled; any other picture as it is. Raises UnclearImage."""
    import numpy as np
    from PIL import Image

    if image.mode == "F" or (image.mode == "I" and not is_sixteen_bits(image)):
        kind = "floating-point numbers" if image.mode == "F" else "signed or 32-bit numbers"
        raise UnclearImage(
            f"its pixels are {kind}, and nothing tells which of them are black and white: convert it to 8 bits, or to "
            "16 bits without sign"
        )
    if not is_sixteen_bits(image):
        return image
    levels = np.asarray(image).astype(np.int64)
    most, zero_is_white = _scale(image)
    scaled = (levels * 255 + most // 2) // most
    grey = Image.fromarray((255 - scaled if zero_is_white else scaled).astype(np.uint8))
    level = image.info.get("transparency")
    if isinstance(level, int):
        grey.putalpha(Image.fromarray(np.where(levels == level, 0, 255).astype(np.uint8)))
    return grey


def is_sixteen_bits(image: Image.Image) -> bool:
    """PPM files of 16 bits are opened in a wider mode."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def _scale(image: Image.Image) -> tuple[int, bool]:
    """The whitest level, and whether it is black instead: TIFF files have 12 bits, or 0 for white, as well."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(258, (16,))
    return (4095 if tuple(bits) == (12,) else 65535), tags.get(262) == 0


def mend_transparent_colour(image: Image.Image) -> None:
    """Before the pixels are read, as they become."""
    tile, colour = getattr(image, "tile", None), image.info.get("transparency")
    mend = TRANSPARENT_COLOURS.get(tile[0][3]) if tile and image.format == "PNG" else None
    if mend and isinstance(colour, int | tuple):
        image.info["transparency"] = mend(colour) if isinstance(colour, int) else tuple(map(mend, colour))


def _composed(image: Image.Image, background: Any) -> Image.Image:
    from PIL import Image

    layer = image.convert("RGBA")
    return Image.composite(layer.convert("RGB"), Image.new("RGB", layer.size, background), layer.getchannel("A"))
