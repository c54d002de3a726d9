"""How much an artifact's masks may differ from its network's."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, StrictFloat


class Tolerance(BaseModel):
    """What is left out has the precision's default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    pixel_agreement: StrictFloat | None = Field(
        None, ge=0, le=1, description="Least share of pixels with the same class, of an image."
    )
    mean_iou: StrictFloat | None = Field(
        None, ge=0, le=1, description="Least mean intersection over union of the classes in either's masks."
    )
    miou_loss: StrictFloat | None = Field(
        None, ge=0, le=1, description="What the mean IoU with the true masks may fall by, network to artifact."
    )


LIMITS = {
    precision: Tolerance.model_validate(values)
    for precision, values in {
        "fp32": {"pixel_agreement": 0.999, "mean_iou": 0.99, "miou_loss": 0.001},
        "fp16": {"pixel_agreement": 0.98, "mean_iou": 0.9, "miou_loss": 0.01},
        "bf16": {"pixel_agreement": 0.95, "mean_iou": 0.8, "miou_loss": 0.02},
        "int8": {"pixel_agreement": 0.8, "mean_iou": 0.5, "miou_loss": 0.03},
    }.items()
}
"""What each precision may cost if the manifest does not say otherwise."""


def limits(precision: str, changes: Tolerance) -> Tolerance:
    """The precision's own limits with those that the manifest sets; the widest for a precision that is not known."""
    own = LIMITS.get(precision, LIMITS["int8"])
    return own.model_copy(update=changes.model_dump(exclude_unset=True))
