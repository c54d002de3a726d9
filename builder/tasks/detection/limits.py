"""How much an artifact's detections may differ from its network's."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, StrictFloat


class Tolerance(BaseModel):
    """What is left out has the precision's default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    match_iou: StrictFloat | None = Field(
        None, gt=0, le=1, description="Two boxes of a class are one detection from this intersection over union on."
    )
    found_agreement: StrictFloat | None = Field(
        None, ge=0, le=1, description="Least share of detections that both have, of the network's and the artifact's."
    )
    box_error: StrictFloat | None = Field(
        None, ge=0, description="Largest distance of a corner's coordinates, in pixels of the picture."
    )
    score_error: StrictFloat | None = Field(None, ge=0, description="Of any detection that both have.")
    map_loss: StrictFloat | None = Field(
        None, ge=0, le=1, description="What the mean average precision may fall by, network to artifact."
    )


LIMITS = {
    precision: Tolerance.model_validate(values)
    for precision, values in {
        "fp32": {"match_iou": 0.95, "found_agreement": 1.0, "box_error": 0.5, "score_error": 1e-4, "map_loss": 0.001},
        "fp16": {"match_iou": 0.9, "found_agreement": 0.9, "score_error": 0.05, "map_loss": 0.005},
        "bf16": {"match_iou": 0.75, "found_agreement": 0.75, "score_error": 0.2, "map_loss": 0.01},
        "int8": {"match_iou": 0.5, "found_agreement": 0.5, "map_loss": 0.02},
    }.items()
}
"""What each precision may cost if the manifest does not say otherwise."""
UNTRAINED = LIMITS["int8"]


def limits(precision: str, changes: Tolerance) -> Tolerance:
    """The precision's own limits with those that the manifest sets; the widest for a precision that is not known."""
    own = LIMITS.get(precision, LIMITS["int8"])
    return own.model_copy(update=changes.model_dump(exclude_unset=True))
