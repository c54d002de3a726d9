"""Answers as pictures: boxes, and classes of pixels, on the upright picture that they are about."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from client.errors import UnreadableFile
from client.types import Detection, Segmentation

if TYPE_CHECKING:
    from PIL import Image as Pillow

    from client.types import Array

GOLDEN = 0.618034
"""Of a turn between the hues of classes: neighbours differ, however many there are."""
Colour = tuple[int, int, int]


def colour(number: int) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def boxes(data: bytes, detections: Sequence[Detection]) -> bytes:
    """A PNG. Each line and letter has a dark or light rim, so that it is seen on any picture. Raises UnreadableFile."""
    from PIL import ImageDraw

    picture = upright(data)
    width = max(2, min(picture.size) // 200)
    draw = ImageDraw.Draw(picture)
    for detection in reversed(detections):  # the surest on top
        _box(draw, detection, width)
    return _png(picture)


def overlay(data: bytes, segmentation: Segmentation) -> bytes:
    """A PNG: the picture, tinted by class, but for class 0, the background. Raises UnreadableFile."""
    from PIL import Image

    picture = upright(data)
    mask = _palette(segmentation.mask).resize(picture.size, Image.Resampling.NEAREST)
    tinted = Image.blend(picture, mask.convert("RGB"), 0.5)
    shown = mask.point([0] + [255] * 255, "L")
    return _png(Image.composite(tinted, picture, shown))


def mask(segmentation: Segmentation) -> bytes:
    """A PNG whose palette's numbers are the classes."""
    return _png(_palette(segmentation.mask))


def upright(data: bytes) -> Pillow.Image:
    """As it is looked at, in RGB. Raises UnreadableFile."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data)) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableFile(f"the picture cannot be drawn on: {error}") from None


def _box(draw: object, detection: Detection, width: int) -> None:
    from PIL import ImageDraw, ImageFont

    assert isinstance(draw, ImageDraw.ImageDraw)
    x1, y1, x2, y2 = detection.box
    paint = colour(detection.class_id)
    draw.rectangle((x1 - 1, y1 - 1, max(x1, x2) + 1, max(y1, y2) + 1), outline=(0, 0, 0), width=width + 2)
    draw.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=paint, width=width)
    font = ImageFont.load_default(max(12, width * 6))
    text = f"{detection.label} {detection.score:.0%}"
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font, stroke_width=2)
    held = draw.im.size
    x = max(0, min(x1, held[0] - (right - left))) - left
    y = (y1 - (bottom - top) if y1 >= bottom - top else y1 + width) - top
    draw.text((x, y), text, font=font, fill=(255, 255, 255), stroke_width=2, stroke_fill=(0, 0, 0))


def _palette(numbers: Array) -> Pillow.Image:
    from PIL import Image

    picture = Image.fromarray(numbers).convert("P")
    picture.putpalette([0, 0, 0, *(part for number in range(1, 256) for part in colour(number))])
    return picture


def _png(picture: Pillow.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
