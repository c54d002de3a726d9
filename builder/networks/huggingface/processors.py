"""Image processors of transformers, as recipes: what each of its keys says, in this project's words.

What a recipe cannot say is refused, and named; such a network is given its recipe in the entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from builder.data.recipe import PreprocessRecipe
from builder.data.recipe.letterbox import Letterbox
from builder.errors import NetworkError
from builder.networks.huggingface.snapshot import Snapshot

AUTO = "AutoImageProcessor"
FILES = ("preprocessor_config.json", "processor_config.json")
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's numbers of its filters."""
WARPED_FROM = 384
"""ConvNeXT's processor squashes pictures from this side on, and crops below."""
LEVIT = 256 / 224


class Refused(Exception):
    """A processor does what no recipe says; the message names the key."""


Sizes = dict[str, Any]
"""Keys of a recipe: resize and crop, or letterbox."""


def recipe_of(snapshot: Snapshot, transformers: Any, finds: bool = False) -> PreprocessRecipe:
    """As the snapshot's processor treats pictures. `finds`: for a detector, which sees whole pictures.

    Raises Refused where there is no processor, or where no recipe does what it does.
    """
    processor = _processor(snapshot, transformers)
    name = type(processor).__name__.removesuffix("Pil").removesuffix("Fast")
    sizing = (DETECTING if finds else SIZING).get(name)
    if sizing is None:
        known = ", ".join(sorted(DETECTING if finds else SIZING))
        raise Refused(f"its processor is a {name}, and known are {known}")
    values = sizing(processor) | _colours(processor)
    try:
        return PreprocessRecipe(channels=3, interpolation=_filter(processor), **values)
    except ValueError as error:  # of pydantic
        raise Refused(f"its processor makes no recipe: {error}") from None


def _processor(snapshot: Snapshot, transformers: Any) -> Any:
    """Of transformers' own class, whose defaults stand for the keys that the file leaves out."""
    if not any((snapshot.folder / name).is_file() for name in FILES):
        raise Refused(f"it has no {FILES[0]}")
    try:
        return transformers.AutoImageProcessor.from_pretrained(
            str(snapshot.folder), backend="pil", local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # whatever its loading meets
        raise Refused(_own_code(snapshot) or f"its processor cannot be read: {_first_line(error)}") from None


def _own_code(snapshot: Snapshot) -> str:
    """What is said of a processor that is code of the snapshot's own; empty for others."""
    for name in FILES:
        try:
            told = (snapshot.read(name) or {}).get("auto_map")
        except NetworkError:
            continue
        if isinstance(told, dict) and AUTO in told:
            return f"its processor is code of its own ({told[AUTO]}), which is not run"
    return ""


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".: ") if lines else type(error).__name__


def _filter(processor: Any) -> str:
    number = processor.resample
    number = 2 if number is None else int(number)
    if number not in RESAMPLING:
        raise Refused(f"`resample` {number} is no filter of Pillow")
    return RESAMPLING[number]


def _colours(processor: Any) -> dict[str, Any]:
    """Mean and deviation of pixels from 0 to 1, whatever the processor multiplies, subtracts and divides by.

    A pixel x becomes (k x - offset - m) / s there, with k and m of its own: (x - (m + offset) / k) / (s / k) here.
    """
    factor = 255 * float(processor.rescale_factor) if processor.do_rescale else 255.0
    offset = 1.0 if processor.do_rescale and getattr(processor, "rescale_offset", False) else 0.0
    mean, std = _of_channels(processor) if processor.do_normalize else ([0.0] * 3, [1.0] * 3)
    twice = _of_channels(processor)[1] if getattr(processor, "include_top", False) else [1.0] * 3
    order = {"channel_order": "bgr"} if getattr(processor, "do_flip_channel_order", False) else {}
    if order and processor.do_normalize:
        raise Refused(
            "`do_flip_channel_order` together with `do_normalize`, of which mean and std are of the other order"
        )
    return order | {
        "mean": tuple((value + offset) / factor for value in mean),
        "std": tuple(value * again / factor for value, again in zip(std, twice, strict=True)),
    }


def _of_channels(processor: Any) -> tuple[list[float], list[float]]:
    found = []
    for key in ("image_mean", "image_std"):
        value = getattr(processor, key)
        numbers = [float(value)] * 3 if isinstance(value, int | float) else [float(one) for one in value or ()]
        if len(numbers) != 3:
            raise Refused(f"`{key}` has {len(numbers)} numbers, and pictures have 3 channels")
        found.append(numbers)
    return found[0], found[1]


def _plain(processor: Any) -> Sizes:
    """Resized, then cropped from the middle."""
    _refuse_padding(processor)
    resize = _resize(processor) if processor.do_resize else None
    crop = _square(processor.crop_size, "crop_size") if getattr(processor, "do_center_crop", False) else None
    return _within(resize, crop)


def _resize(processor: Any) -> tuple[int, ...]:
    size = _said(processor.size)
    if set(size) == {"shortest_edge"}:
        return (int(size["shortest_edge"]),)
    return _square(size, "size")


def _square(size: Any, key: str) -> tuple[int, ...]:
    said = _said(size)
    if set(said) != {"height", "width"}:
        raise Refused(f"`{key}` is {said}, and known are height and width" + (", or shortest_edge" * (key == "size")))
    return int(said["height"]), int(said["width"])


def _said(size: Any) -> dict[str, int]:
    items = size.items() if hasattr(size, "items") else vars(size).items() if size is not None else ()
    return {key: int(value) for key, value in items if value is not None}


def _within(resize: Sequence[int] | None, crop: Sequence[int] | None) -> Sizes:
    """Raises Refused for tensors of no one size, and for crops beyond the picture, which are filled otherwise here."""
    if crop is None and (resize is None or len(resize) == 1):
        raise Refused(
            "`size` is of the shorter side and nothing is cropped, so that each picture has a size of its own"
        )
    if crop is not None and (resize is None or any(c > r for c, r in zip(crop, tuple(resize) * 2, strict=False))):
        raise Refused(f"`crop_size` {list(crop)} is larger than what is cropped")
    return {"resize": resize, "crop": crop}


def _refuse_padding(processor: Any) -> None:
    if getattr(processor, "do_pad", False):
        raise Refused("`do_pad`")


def _unmoved(processor: Any) -> Sizes:
    """As SegFormer's, which never crops."""
    _refuse_padding(processor)
    return _within(_resize(processor) if processor.do_resize else None, None)


def _convnext(processor: Any) -> Sizes:
    size = _said(processor.size)
    if set(size) != {"shortest_edge"} or not processor.do_resize:
        raise Refused(f"`size` {size} of ConvNeXT's processor, which takes shortest_edge")
    if getattr(processor, "do_center_crop", False):
        raise Refused("`do_center_crop` of ConvNeXT's processor, which crops by crop_pct")
    side = size["shortest_edge"]
    if side >= WARPED_FROM:
        return {"resize": (side, side)}
    return {"resize": (int(side / processor.crop_pct),), "crop": (side, side)}


def _poolformer(processor: Any) -> Sizes:
    size = _said(processor.size)
    share = processor.crop_pct
    if share is None:
        return _plain(processor)
    _refuse_padding(processor)
    sides = set(size.values())
    if len(sides) != 1 or not processor.do_center_crop or not processor.do_resize:
        raise Refused(f"`size` {size} with crop_pct {share}")
    return _within((int(sides.pop() / share),), _square(processor.crop_size, "crop_size"))


def _levit(processor: Any) -> Sizes:
    size = _said(processor.size)
    if set(size) != {"shortest_edge"} or not processor.do_resize or not processor.do_center_crop:
        return _plain(processor)
    return _within((int(LEVIT * size["shortest_edge"]),), _square(processor.crop_size, "crop_size"))


def _dpt(processor: Any) -> Sizes:
    """Whole sides alone: what keeps the aspect ratio is of no one size."""
    sizes = _unmoved(processor)
    multiple = int(processor.ensure_multiple_of or 1)
    if processor.keep_aspect_ratio or any(side % multiple for side in sizes["resize"] or ()):
        raise Refused("`keep_aspect_ratio`, or a size that is no multiple of `ensure_multiple_of`")
    return sizes


def _squashed(processor: Any) -> Sizes:
    """As RT-DETR's, which makes every picture a square."""
    if not processor.do_resize:
        raise Refused("`do_resize` false")
    _refuse_padding(processor)
    return {"resize": _square(processor.size, "size")}


def _boxed(processor: Any) -> Sizes:
    """As DETR's: the shorter side is made so long, unless the longer one would be too long; the rest is padding, which
    the network is told of. The canvas is that of the longest side.
    """
    size = _said(processor.size)
    if set(size) == {"height", "width"}:
        return {"resize": _square(size, "size")}
    if set(size) != {"shortest_edge", "longest_edge"} or not processor.do_resize:
        raise Refused(f"`size` {size}, and known are shortest_edge with longest_edge, or height with width")
    longest = size["longest_edge"]
    shortest = min(size["shortest_edge"], longest)
    return {
        "letterbox": Letterbox(size=(longest, longest), place="corner", fill="mean", shortest=shortest, longest=longest)
    }


def _unpadded(processor: Any) -> Sizes:
    """YOLOS is told nothing of padding, and its own processor gives each picture a size of its own."""
    size = _said(processor.size)
    if set(size) != {"height", "width"}:
        raise Refused(
            f"`size` {size} gives every picture a size of its own, and YOLOS is told of no padding: squash them, such "
            "as `preprocess: {channels: 3, resize: [800, 800], mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, "
            "0.225]}`, and look at what it finds"
        )
    return {"resize": _square(size, "size")}


SIZING: dict[str, Callable[[Any], Sizes]] = {
    **dict.fromkeys(
        (
            *("BeitImageProcessor", "BitImageProcessor", "CLIPImageProcessor", "DeiTImageProcessor"),
            *("EfficientNetImageProcessor", "MobileNetV1ImageProcessor", "MobileNetV2ImageProcessor"),
            *("MobileViTImageProcessor", "SiglipImageProcessor", "ViTImageProcessor"),
        ),
        _plain,
    ),
    "ConvNextImageProcessor": _convnext,
    "DPTImageProcessor": _dpt,
    "LevitImageProcessor": _levit,
    "PoolFormerImageProcessor": _poolformer,
    "SegformerImageProcessor": _unmoved,
}
"""By class of processor; `tests/test_huggingface_pictures.py` holds the pixels of each to transformers' own."""
DETECTING: dict[str, Callable[[Any], Sizes]] = {
    **dict.fromkeys(("ConditionalDetrImageProcessor", "DeformableDetrImageProcessor", "DetrImageProcessor"), _boxed),
    "RTDetrImageProcessor": _squashed,
    "YolosImageProcessor": _unpadded,
}
