"""The keys of an entry that classifies images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictBool

from builder.data.sets import ImageSet
from builder.tasks.classification.limits import Tolerance
from builder.tasks.images.spec import LabelledSpec


class Classification(LabelledSpec):
    """An entry of `task: classification`, which is the default. `alexnet:` alone is a complete entry."""

    activation: Literal["softmax", "sigmoid", "none"] = Field(
        "softmax",
        description="softmax: the network gives logits, and one class is right. sigmoid: it gives logits, and each "
        "class is right or not by itself. none: it already gives probabilities.",
    )
    multilabel: StrictBool | None = Field(
        None,
        description="Whether several classes may be right at once, so that probabilities need not sum to 1. Default: "
        "with sigmoid alone.",
    )
    images: ImageSet | None = Field(
        None,
        description="Images to verify with, labelled if they lie in folders named by class. Default: photos that "
        "come with this tool.",
    )
    tolerance: Tolerance = Field(
        default_factory=lambda: Tolerance.model_validate({}),
        description="Changes to what the precision may cost by default.",
    )

    @property
    def is_multilabel(self) -> bool:
        return self.activation == "sigmoid" if self.multilabel is None else self.multilabel
