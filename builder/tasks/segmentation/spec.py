"""The keys of an entry that segments images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from builder.data.sets import ImageSet, Text, UserText
from builder.tasks.images.spec import LabelledSpec
from builder.tasks.segmentation.limits import Tolerance
from builder.tasks.spec import Keys


class MaskedImages(ImageSet):
    """Images to verify with, and perhaps their true masks."""

    masks: UserText | None = Field(
        None,
        description="A folder with the true mask of each image: a file of the image's name that ends in .png (gray or "
        "palette) or .npy, with the number of each pixel's class. 255 is of no class and not counted.",
    )


class Segmentation(LabelledSpec):
    """An entry of `task: segmentation`: the class of each pixel."""

    size: Literal["picture", "network"] = Field(
        "picture",
        description="picture: masks are of the picture's own size. network: of that which the network sees.",
    )
    encode: Literal["none", "png"] = Field(
        "none",
        description="none: masks are tensors, UINT8. png: files with a palette, whose indices are the classes.",
    )
    images: MaskedImages | None = Field(
        None, description="Images to verify with. Default: photos that come with this tool."
    )
    tolerance: Tolerance = Field(
        default_factory=lambda: Tolerance.model_validate({}),
        description="Changes to what the precision may cost by default.",
    )

    @field_validator("images", mode="before", json_schema_input_type=Text | MaskedImages | None)
    @classmethod
    def _as_masked_images(cls, value: Any) -> Any:
        return {"data": value} if isinstance(value, str) else value

    def files(self) -> dict[Keys, str]:
        masks = self.images.masks if self.images else None
        return super().files() | ({("images", "masks"): masks} if masks else {})

    def data_files(self, base: Path) -> Iterator[Path]:
        for path in super().data_files(base):
            yield from sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else (path,)
