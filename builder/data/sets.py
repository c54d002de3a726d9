"""Groups of keys that an entry of the manifest may hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt


def _in_a_known_home(value: Any) -> Any:
    if str(value).startswith("~"):
        try:
            Path(value).expanduser()
        except RuntimeError:
            raise ValueError(f"there is no home folder of {Path(value).parts[0]}; write the path out") from None
    return value


def _as_labels(value: Any) -> Any:
    """A YAML list of class numbers is a list of labels too. Other values may not look as they were written."""
    if not isinstance(value, list | tuple):
        return value
    for item in value:
        if isinstance(item, bool) or not isinstance(item, str | int):
            raise ValueError(f"the label {item!r} is no text; put it into quotes")
    return tuple(str(item) for item in value)


Text = Annotated[str, Field(min_length=1)]
UserPath = Annotated[Path, AfterValidator(_in_a_known_home)]
UserText = Annotated[Text, AfterValidator(_in_a_known_home)]
"""That may be a path, too."""
Labels = Annotated[tuple[str, ...], BeforeValidator(_as_labels, json_schema_input_type=tuple[str | int, ...])]


class ImageSet(BaseModel):
    """Images, and how many of them to use: `DIR`, or `{data: DIR, samples: 256}`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    data: UserText = Field(
        description="A folder of images, searched through, or package.module:callable, or path/file.py:callable, "
        "that gives images: files, Pillow images, or pairs of one and its class, as torch datasets do.",
    )
    samples: StrictInt = Field(256, ge=1, le=100_000, description="How many at most, taken evenly.")
