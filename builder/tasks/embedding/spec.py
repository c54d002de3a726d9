"""The keys of an entry that makes vectors of images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from builder.data.sets import Text
from builder.tasks.embedding.limits import Tolerance
from builder.tasks.images.spec import ImagesSpec


class Embedding(ImagesSpec):
    """An entry of `task: embedding`: `{network: resnet50, task: embedding, layer: flatten, normalize: l2}`."""

    layer: Text | None = Field(
        None,
        description="Where the network ends: a node of its graph, or a module, by dotted name, such as flatten or "
        "avgpool. Default: as it is.",
    )
    normalize: Literal["none", "l2"] = Field("none", description="l2: every vector has the length 1.")
    tolerance: Tolerance = Field(
        default_factory=lambda: Tolerance.model_validate({}),
        description="Changes to what the precision may cost by default.",
    )
