"""Keys of an entry that are of one format alone."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from builder.data.sets import Text

Sizes = dict[Text, tuple[Annotated[StrictInt, Field(ge=1)], ...]]
"""By input, a size for each number of its shape, without the batch."""


class PlanSettings(BaseModel):
    """How a TensorRT plan is built."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    AT_MOST_THE_BATCH: ClassVar[tuple[str, ...]] = ("optimum_batch_size",)
    """Keys that an entry's `max_batch_size` bounds, for the JSON Schema; `objection` holds them to what is said."""

    optimum_batch_size: StrictInt | None = Field(
        None, ge=1, le=1024, description="The batch to be fastest at. Default: max_batch_size."
    )
    min_shapes: Sizes = Field(
        default_factory=dict,
        description="By input, the least sizes, where its shape has -1. Default: 1 for each.",
    )
    optimum_shapes: Sizes = Field(
        default_factory=dict,
        description="By input, the sizes to be fastest at, where its shape has -1. Default: the first samples'.",
    )
    max_shapes: Sizes = Field(
        default_factory=dict,
        description="By input, the largest sizes, where its shape has -1; larger tensors are refused. "
        "Default: four times optimum_shapes.",
    )
    workspace_mib: StrictInt = Field(4096, ge=16, description="Memory that TensorRT may try tactics with.")
    builder: Literal["auto", "python", "trtexec"] = Field(
        "auto",
        description="python: the tensorrt package of this machine. trtexec: that of the serving image, in Docker. "
        "auto: python if it can be imported.",
    )
    image: Text | None = Field(None, description="The serving image. Default: the newest that is known.")
