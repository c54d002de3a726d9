"""The preprocess recipe: declared once, the source of the reference transform and the served step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from builder.data.recipe import decoding, placing, scale
from builder.data.recipe.letterbox import Letterbox

if TYPE_CHECKING:
    import torch
    from PIL import Image

ROUNDING = 2e-4
"""Of a pixel from 0 to 1, a twentieth of a grey level: where it lies between others, float32 knows to 1e-4 of 1000."""
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, int | float) else value


def _as_pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int | float) else value


def _as_letterbox(value: Any) -> Any:
    return {"size": value} if isinstance(value, int | list | tuple) and not isinstance(value, bool) else value


Side = Annotated[StrictInt, Field(ge=1, le=16384)]
Boxed = Annotated[
    Letterbox, BeforeValidator(_as_letterbox, json_schema_input_type=Side | tuple[Side, Side] | Letterbox)
]
Resize = Annotated[
    tuple[Side] | tuple[Side, Side],
    BeforeValidator(_as_tuple, json_schema_input_type=Side | tuple[Side] | tuple[Side, Side]),
]
Crop = Annotated[tuple[Side, Side], BeforeValidator(_as_pair, json_schema_input_type=Side | tuple[Side, Side])]
PerChannel = tuple[StrictFloat, ...]
# The limits are for editors: `scale.mistake` says what the figures should be.
Mean = Annotated[StrictFloat, Field(json_schema_extra={"minimum": -scale.MOST_MEAN, "maximum": scale.MOST_MEAN})]
Std = Annotated[StrictFloat, Field(gt=0, json_schema_extra={"minimum": scale.LEAST_STD, "maximum": scale.MOST_STD})]
PositiveInt = Annotated[StrictInt, Field(ge=1)]
Level = Annotated[StrictInt, Field(ge=0, le=255)]
Orientation = Literal["exif", "stored"]
Background = Literal["white", "black", "stored"] | tuple[Level, Level, Level]
ChannelOrder = Literal["rgb", "bgr"]
Frames = Literal["single", "first"]
# A key of an override is written or left out; null would say nothing.
Unsaid = SkipJsonSchema[None]


class RecipeOverrides(BaseModel):
    """The manifest's `preprocess:`; what it leaves out stays as the weights' own recipe says."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    channels: Literal[1, 3] | Unsaid = Field(None, description="1: grayscale, 3: RGB.")
    resize: Resize | None = Field(None, description="Shorter side in pixels, or [height, width]. null: no resizing.")
    crop: Crop | None = Field(None, description="Centre crop: side, or [height, width]. null: no cropping.")
    interpolation: Interpolation | Unsaid = Field(None, description="Filter of the resizing.")
    letterbox: Boxed | None = Field(
        None,
        description="In place of resize and crop: the whole picture on a canvas of this size, undistorted. null: none.",
    )
    antialias: StrictBool | Unsaid = Field(
        None,
        description="true: as Pillow resizes, and torchvision its images (default). false: between the four nearest "
        "pixels alone, as torchvision's detectors and OpenCV's INTER_LINEAR do; with bilinear.",
    )
    mean: tuple[Mean, ...] | Unsaid = Field(None, description="Subtracted, one number a channel, of 0..1.")
    std: tuple[Std, ...] | Unsaid = Field(None, description="Divided by, one number a channel, of 0..1.")
    orientation: Orientation | Unsaid = Field(
        None,
        description="exif: photos are turned as their EXIF orientation says and viewers show them (default). stored: "
        "as the pixels are stored.",
    )
    background: Background | Unsaid = Field(
        None,
        description="What is seen where a picture is transparent: white (default), black, or [red, green, blue]. "
        "stored: transparency is ignored.",
    )
    channel_order: ChannelOrder | Unsaid = Field(
        None, description="Of the network's input, and of mean and std: rgb (default), or bgr, as OpenCV reads images."
    )
    frames: Frames | Unsaid = Field(
        None,
        description="single: animations and files of several pages are refused (default). first: the rest is ignored.",
    )
    max_bytes: PositiveInt | Unsaid = Field(None, description="Largest encoded image accepted.")
    max_pixels: PositiveInt | Unsaid = Field(None, description="Largest decoded image accepted.")

    @field_validator(
        *("channels", "interpolation", "antialias", "mean", "std", "orientation", "background", "channel_order"),
        *("frames", "max_bytes", "max_pixels"),
        mode="before",
    )
    @classmethod
    def _said(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("null says nothing; leave the key out to keep what the weights bring along")
        return value

    @field_validator("background", mode="before")
    @classmethod
    def _colour(cls, value: Any) -> Any:
        """One message instead of one for each of the forms."""
        parts = value if isinstance(value, list | tuple) else ()
        levels = [part for part in parts if isinstance(part, int) and not isinstance(part, bool) and 0 <= part <= 255]
        if value not in ("white", "black", "stored", None) and not len(levels) == len(parts) == 3:
            raise ValueError("say white, black, stored, or [red, green, blue] with numbers from 0 to 255")
        return value

    @model_validator(mode="after")
    def _one_a_channel(self) -> RecipeOverrides:
        for name in ("mean", "std"):
            count = len(getattr(self, name) or ())
            if count not in ((0, self.channels) if self.channels else (0, 1, 3)):
                raise ValueError(f"{name} has {count} numbers for {self.channels or '1 or 3'} channels")
        _require_colours(self.channels, self.channel_order)
        return self

    @model_validator(mode="after")
    def _one_way(self) -> RecipeOverrides:
        _require_one_way(self.letterbox, self.resize or self.crop)
        if self.antialias is False and self.interpolation:
            _require_bilinear(self.interpolation)
        return self

    @model_validator(mode="after")
    def _of_0_to_1(self) -> RecipeOverrides:
        """Only what is written now: weights of old may have been trained with odd figures, and be served with them."""
        if mistake := scale.mistake(self.mean or (), self.std or ()):
            raise ValueError(mistake)
        return self


class PreprocessRecipe(BaseModel):
    """Encoded image -> float32 [channels, height, width], as torchvision's transforms do it.

    Decode, turn upright, compose on the background, convert to RGB or grayscale, resize, centre crop
    (or lay on a canvas), scale to 0..1, put the channels in order, normalise. One that was written before a key was
    there means the key's default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    channels: Literal[1, 3]
    resize: Resize | None = None
    crop: Crop | None = None
    letterbox: Boxed | None = None
    interpolation: Interpolation = "bilinear"
    antialias: StrictBool = True
    mean: PerChannel = ()
    std: PerChannel = ()
    orientation: Orientation = "exif"
    background: Background = "white"
    channel_order: ChannelOrder = "rgb"
    frames: Frames = "single"
    max_bytes: PositiveInt = 32 * 1024 * 1024
    max_pixels: PositiveInt = 64_000_000

    @model_validator(mode="after")
    def _complete(self) -> PreprocessRecipe:
        _require_one_way(self.letterbox, self.crop or self.resize)
        if not self.antialias:
            _require_bilinear(self.interpolation)
        if self.letterbox is None and self.crop is None and (self.resize is None or len(self.resize) == 1):
            raise ValueError("the tensor's size would depend on the image; give crop: SIDE, or resize: [HEIGHT, WIDTH]")
        for name, neutral in (("mean", 0.0), ("std", 1.0)):
            values = getattr(self, name) or (neutral,) * self.channels
            if len(values) != self.channels:
                raise ValueError(f"{name} has {len(values)} numbers for {self.channels} channels")
            object.__setattr__(self, name, values)
        if any(value <= 0 for value in self.std):
            raise ValueError("std must be greater than 0")
        _require_colours(self.channels, self.channel_order)
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """[C, H, W] of the tensor that a network gets."""
        if self.letterbox is not None:
            return (self.channels, *self.letterbox.size)
        if self.crop is not None:
            return (self.channels, *self.crop)
        assert self.resize is not None  # _complete holds it, and that there are two
        return (self.channels, self.resize[0], self.resize[-1])

    def overridden(self, overrides: RecipeOverrides) -> PreprocessRecipe:
        """This recipe with what `overrides` sets. Raises pydantic.ValidationError."""
        changes = overrides.model_dump(exclude_unset=True)
        # One way of making pictures the network's size takes the place of the other.
        replaced: tuple[str, ...] = ("resize", "crop") if changes.get("letterbox") else ()
        if changes.get("resize") or changes.get("crop"):
            replaced = ("letterbox",)
        return PreprocessRecipe.model_validate(self.model_dump() | dict.fromkeys(replaced) | changes)

    def remark(self) -> str:
        """What may be meant, and mostly is not; nothing if there is nothing to say."""
        if self.crop is None or self.resize is None:
            return ""
        sizes = list(zip(self.crop, self.resize * 2, strict=False))
        if not any(crop > resized for crop, resized in sizes):
            return ""
        crop, resized = ("x".join(map(str, size)) for size in (self.crop, self.resize))
        return f"crop {crop} is larger than resize {resized}: pictures get black borders"

    def digest(self) -> str:
        """Short name of what the recipe says."""
        text = json.dumps(self.model_dump(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def decode(self, path: Path | IO[bytes]) -> Image.Image:
        """The picture as people see it, in the recipe's mode. Raises what Pillow does, and decoding.UnclearImage."""
        from PIL import Image

        with Image.open(path) as image:
            return self.seen(image)

    def seen(self, image: Image.Image) -> Image.Image:
        """The same of a picture that is opened already, which may be changed by that. Raises UnclearImage."""
        return decoding.seen(image, self)

    def reference_transform(self) -> Callable[[Image.Image], torch.Tensor]:
        """torchvision's transform of this recipe: Pillow image -> float32 [C, H, W]."""
        from torchvision import transforms

        composed: Callable[[Image.Image], torch.Tensor] = transforms.Compose([*self._sizing(), *self.normalisation()])
        if self.antialias and self.letterbox is None:
            return composed
        return placing.reference(self)

    def agrees(self, served: Any, expected: Any) -> bool:
        """Whether two float32 arrays are one picture: to the last bit, where Pillow resizes it."""
        if served.shape != expected.shape:
            return False
        if self.antialias:
            return bool((served == expected).all())
        # Multiplied and added in another order than PyTorch's kernels do it.
        return bool(abs(served - expected).max() <= ROUNDING / min(self.std))

    def _sizing(self) -> list[Callable[[Any], Any]]:
        from torchvision import transforms

        steps: list[Callable[[Any], Any]] = []
        if self.resize is not None:
            interpolation = transforms.InterpolationMode(self.interpolation)
            steps.append(transforms.Resize(list(self.resize), interpolation, antialias=True))
        if self.crop is not None:
            steps.append(transforms.CenterCrop(list(self.crop)))
        return steps

    def placement(self, width: int, height: int) -> placing.Placement:
        """Where a picture of this size lies in what the network gets."""
        return placing.placement(self, width, height)

    def normalisation(self) -> list[Callable[[Any], Any]]:
        """The last of the transforms: Pillow image of the network's size -> float32 [C, H, W]."""
        from torchvision import transforms

        order = [transforms.Lambda(_reversed)] if self.channel_order == "bgr" else []
        return [transforms.ToTensor(), *order, transforms.Normalize(self.mean, self.std)]


def _reversed(tensor: torch.Tensor) -> torch.Tensor:
    """RGB as BGR; a function of its own, since loaders of several processes pickle it."""
    return tensor.flip(0)


def _require_one_way(letterbox: Letterbox | None, sizes: Any) -> None:
    if letterbox is not None and sizes is not None:
        raise ValueError("letterbox takes the place of resize and crop; leave them out, or it")


def _require_bilinear(interpolation: str) -> None:
    if interpolation != "bilinear":
        raise ValueError(f"antialias: false is for interpolation: bilinear, not {interpolation}")


def _require_colours(channels: int | None, order: str | None) -> None:
    if channels == 1 and order == "bgr":
        raise ValueError("channel_order: bgr is of 3 channels; leave it out for 1")


def resolved(own: PreprocessRecipe | None, overrides: RecipeOverrides) -> PreprocessRecipe:
    """A network's own recipe, if it has one, with the user's changes. Raises ValueError that says what is wrong."""
    try:
        if own is None:
            return PreprocessRecipe.model_validate(overrides.model_dump(exclude_unset=True))
        return own.overridden(overrides)
    except ValidationError as error:
        message = "; ".join(f"{'.'.join(map(str, e['loc']))} {e['msg']}".strip() for e in error.errors())
        raise ValueError(message.removeprefix("Value error, ")) from None


def recipe_from_transforms(preset: Any) -> PreprocessRecipe:
    """The recipe of a torchvision weights' `transforms()` (its ImageClassification preset)."""
    return PreprocessRecipe.model_validate(
        {
            "channels": 3,
            "resize": tuple(_flat(preset.resize_size)),
            "crop": _flat(preset.crop_size)[0],
            "interpolation": preset.interpolation.value,
            "mean": tuple(preset.mean),
            "std": tuple(preset.std),
        }
    )


def _flat(size: Any) -> list[int]:
    """torchvision nests some sizes: 256, [256] and [[256]] all occur."""
    return [number for item in size for number in _flat(item)] if isinstance(size, list | tuple) else [size]


IMAGENET = PreprocessRecipe(
    channels=3, resize=(256,), crop=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
"""What the networks of both articles' first half were trained with."""
