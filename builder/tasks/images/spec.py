"""The keys of entries whose clients send encoded images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from builder.data.images import find
from builder.data.recipe import RecipeOverrides
from builder.data.sets import ImageSet, Text
from builder.tasks.labelled import Labelled
from builder.tasks.spec import Keys, ModelSpec


class ImagesSpec(ModelSpec):
    """An entry whose network gets one image a sample."""

    preprocess: RecipeOverrides = Field(
        default_factory=lambda: RecipeOverrides.model_validate({}),
        description="Changes to the recipe that the weights bring along.",
    )
    images: ImageSet | None = Field(
        None, description="Images to verify with. Default: photos that come with this tool."
    )
    calibration: ImageSet | None = Field(
        None, description="Images that int8 is calibrated with: like those to come, but not those of `images`."
    )

    def files(self) -> dict[Keys, str]:
        sets = {"images": self.images, "calibration": self.calibration}
        return super().files() | {(key, "data"): images.data for key, images in sets.items() if images}

    def data_files(self, base: Path) -> Iterator[Path]:
        """Of a folder of images, those that are used."""
        sets = [images for images in (self.images, self.calibration) if images]
        folders = [images for images in sets if (base / Path(images.data).expanduser()).is_dir()]
        used = {("images", "data"), ("calibration", "data")}
        others = {keys: value for keys, value in self.files().items() if keys not in used}
        yield from (Path(image.name) for images in folders for image in find(images, base))
        for value in others.values():
            yield from self.read_of(value, base)

    @field_validator("images", "calibration", mode="before", json_schema_input_type=Text | ImageSet | None)
    @classmethod
    def _images_as_set(cls, value: Any) -> Any:
        return {"data": value} if isinstance(value, str) else value


class LabelledSpec(Labelled, ImagesSpec):
    """One whose classes may have names."""
