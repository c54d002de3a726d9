"""Generated images of which it is known how people see them, to hold the reference and the served step to.

The evaluation images are held to as well, but seldom have an orientation, 16 bits, transparency or further frames.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.data.recipe import PreprocessRecipe

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from builder.steps import Step

    Array = np.ndarray[Any, Any]

HEIGHT, WIDTH = 6, 7
# Larger than the images, either way round: nothing is resized, and nothing cut off.
UNSIZED = {
    "resize": None,
    "crop": (8, 8),
    "letterbox": None,
    "antialias": True,
    "max_bytes": 1 << 20,
    "max_pixels": 1 << 20,
}
SHOWN: dict[int, Callable[[Any], Any]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored[::-1].swapaxes(0, 1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored[:, ::-1].swapaxes(0, 1),
}
"""By EXIF's orientation: stored rows and columns -> those that viewers show."""


@dataclass(frozen=True)
class Probe:
    name: str
    data: bytes
    seen: Array | None
    """uint8 [H, W, 3]; None: it is to be refused."""


def difference(recipe: PreprocessRecipe, preprocessor: Step) -> str:
    """Where the reference or the served step sees something else than people do; nothing if nowhere."""
    unsized = recipe.model_copy(update=UNSIZED)
    transform, served = unsized.reference_transform(), preprocessor.function(unsized)
    sides: dict[str, Callable[[bytes], Any]] = {
        "the reference transform": lambda data: transform(unsized.decode(io.BytesIO(data))).numpy(),
        "the served preprocessing": lambda data: _pixels(served(data)),
    }
    for probe in probes(recipe):
        for side, function in sides.items():
            if not _agrees(function, probe, unsized):
                return f"{side} does not see {probe.name} as the recipe says"
    return ""


def _pixels(given: Any) -> Any:
    """Of a step that tells where the picture lies, too, the tensor."""
    return given[0] if isinstance(given, tuple) else given


def _agrees(function: Callable[[bytes], Any], probe: Probe, recipe: PreprocessRecipe) -> bool:
    import numpy as np
    from PIL import Image

    try:
        found = function(probe.data)
    except ValueError:
        return probe.seen is None
    if probe.seen is None:
        return False
    expected = recipe.reference_transform()(Image.fromarray(probe.seen).convert("L" if recipe.channels == 1 else "RGB"))
    return np.array_equal(found, expected.numpy())


def probes(recipe: PreprocessRecipe) -> Iterator[Probe]:
    yield from _turned(recipe)
    yield from _deep()
    yield from _transparent(recipe)
    yield from _in_frames(recipe)


def _turned(recipe: PreprocessRecipe) -> Iterator[Probe]:
    from PIL import Image

    for orientation in SHOWN:
        for form in ("PNG", "JPEG"):
            exif = Image.Exif()
            exif[0x0112] = orientation
            data = _file(Image.fromarray(_colours()), form, exif=exif.tobytes())
            seen = SHOWN[orientation if recipe.orientation == "exif" else 1](_opened(data))
            yield Probe(f"a {form} of orientation {orientation}", data, seen.copy())


def _deep() -> Iterator[Probe]:
    """The levels are those of 8 bits, so that either way of rounding gives them back."""
    import numpy as np
    from PIL import Image

    levels = _colours()[..., 0]
    seen = np.repeat(levels[..., None], 3, axis=2)
    for mode, kind, forms in (("I;16", "<u2", ("PNG", "TIFF", "PPM")), ("I;16B", ">u2", ("TIFF",))):
        image = Image.frombytes(mode, (WIDTH, HEIGHT), (levels.astype(kind) * 257).astype(kind).tobytes())
        for form in forms:
            yield Probe(f"a {form} of 16 bits ({mode})", _file(image, form), seen)
    yield Probe("a TIFF of floating-point numbers", _file(Image.fromarray(levels.astype(np.float32)), "TIFF"), None)


def _transparent(recipe: PreprocessRecipe) -> Iterator[Probe]:
    import numpy as np
    from PIL import Image

    colours, opacity = _colours(), _colours()[..., 1:2]
    gray = np.repeat(colours[..., :1], 3, axis=2)
    rgba = Image.fromarray(np.concatenate([colours, opacity], axis=2))
    la = Image.merge("LA", [Image.fromarray(gray[..., 0]), Image.fromarray(opacity[..., 0])])
    palette = Image.fromarray(np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)).convert("P")
    palette.putpalette(colours.tobytes())
    yield Probe("a PNG with alpha", _file(rgba, "PNG"), _composed(colours, opacity, recipe))
    yield Probe("a gray PNG with alpha", _file(la, "PNG"), _composed(gray, opacity, recipe))
    data = _file(palette, "PNG", transparency=opacity.tobytes())
    yield Probe("a PNG with a transparent palette", data, _composed(colours, opacity, recipe))


def _in_frames(recipe: PreprocessRecipe) -> Iterator[Probe]:
    from PIL import Image

    colours = _colours()
    first, second = Image.fromarray(colours), Image.fromarray(colours[::-1].copy())
    seen = colours if recipe.frames == "first" else None
    for form in ("PNG", "TIFF"):
        data = _file(first, form, save_all=True, append_images=[second])
        yield Probe(f"a {form} of two images", data, seen)


def _colours() -> Array:
    """uint8 [HEIGHT, WIDTH, 3]; no row or column is like another, and the first pixel is black, the last white."""
    import numpy as np

    values = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    values[0, 0], values[-1, -1] = 0, 255
    return values


def _composed(colours: Array, opacity: Array, recipe: PreprocessRecipe) -> Array:
    """Colour over background, the exact share of each, rounded."""
    import numpy as np

    if recipe.background == "stored":
        return colours
    named = {"white": (255, 255, 255), "black": (0, 0, 0)}
    background = np.asarray(named.get(str(recipe.background), recipe.background), np.float64)
    share = opacity / 255
    composed: Array = np.round(colours * share + background * (1 - share)).astype(np.uint8)
    return composed


def _file(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _opened(data: bytes) -> Array:
    """Pixels of an encoded image as they are stored, without regard to EXIF's orientation."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)
