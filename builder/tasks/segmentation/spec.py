"""The keys of an entry that gives each pixel a class."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from builder.data.sets import ImageSet, Text, UserText
from builder.tasks.images.spec import LabelledSpec
from builder.tasks.segmentation.limits import Tolerance
from builder.tasks.spec import Keys


class MaskedSet(ImageSet):
    """Images, and perhaps their true masks: `{data: DIR, masks: DIR}`."""

    masks: UserText | None = Field(
        None,
        description="A folder with one mask an image, of its name with .png or .npy: a class a pixel, of the upright "
        "picture's size; 255 is no class.",
    )


class Segmentation(LabelledSpec):
    """An entry of `task: segmentation`: `{network: lraspp_mobilenet_v3_large, task: segmentation}`."""

    size: Literal["picture", "network"] = Field(
        "picture", description="Of the masks: picture, the size of each picture as sent; network, that of its input."
    )
    encode: Literal["none", "png"] = Field(
        "none", description="none: masks are tensors. png: encoded pictures with a palette, a small part of the bytes."
    )
    images: MaskedSet | None = Field(
        None, description="Images to verify with, perhaps with masks. Default: photos that come with this tool."
    )
    tolerance: Tolerance = Field(
        default_factory=lambda: Tolerance.model_validate({}),
        description="Changes to what the precision may cost by default.",
    )

    def files(self) -> dict[Keys, str]:
        masks = self.images.masks if self.images else None
        return super().files() | ({("images", "masks"): masks} if masks else {})

    @field_validator("images", mode="before", json_schema_input_type=Text | MaskedSet | None)
    @classmethod
    def _as_masked_set(cls, value: Any) -> Any:
        return {"data": value} if isinstance(value, str) else value
