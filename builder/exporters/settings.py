"""Keys of an entry that are of one format alone."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from builder.data.sets import Text


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
