"""Groups of keys that an entry of the manifest may hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictFloat, StrictInt


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


class Tolerance(BaseModel):
    """How much an artifact may differ from its network. What is left out has the precision's default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    max_abs_error: StrictFloat | None = Field(None, ge=0, description="Of any probability.")
    mean_abs_error: StrictFloat | None = Field(
        None, ge=0, description="Of the probabilities of all images and classes."
    )
    relative_error: StrictFloat | None = Field(
        None, ge=0, description="Largest error of a log-probability over the largest difference that images make in it."
    )
    noise: StrictFloat | None = Field(
        None,
        ge=0,
        description="Error of the log-probabilities over what images change in them (root mean squares).",
    )
    top1_agreement: StrictFloat | None = Field(
        None, ge=0, le=1, description="Least share of images with the same answer."
    )
    top5_agreement: StrictFloat | None = Field(
        None, ge=0, le=1, description="Least share of images whose answer is among the artifact's first five."
    )
    accuracy_loss: StrictFloat | None = Field(
        None, ge=0, le=1, description="Share of labelled images that may be lost, network to artifact."
    )


class PlanSettings(BaseModel):
    """How a TensorRT plan is built."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    optimum_batch_size: StrictInt | None = Field(
        None, ge=1, le=1024, description="The batch to be fastest at. Default: max_batch_size."
    )
    workspace_mib: StrictInt = Field(4096, ge=16, description="Memory that TensorRT may try tactics with.")
    builder: Literal["auto", "python", "trtexec"] = Field(
        "auto",
        description="python: the tensorrt package of this machine. trtexec: that of the serving image, in Docker. "
        "auto: python if it can be imported.",
    )
    image: Text | None = Field(None, description="The serving image. Default: the newest that is known.")
