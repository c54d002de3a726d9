"""How much the masks of an artifact may differ from its network's."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, StrictFloat


class Tolerance(BaseModel):
    """How much an artifact may differ from its network. What is left out has the precision's default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    pixel_agreement: StrictFloat | None = Field(
        None, ge=0, le=1, description="Least share of pixels of the same class, of all pictures."
    )
    iou_agreement: StrictFloat | None = Field(
        None,
        ge=0,
        le=1,
        description="Least intersection over union of the network's masks and the artifact's, mean of the classes.",
    )
    miou_loss: StrictFloat | None = Field(
        None,
        ge=0,
        le=1,
        description="How much of the mean intersection over union with the given masks may be lost, network to "
        "artifact.",
    )


LIMITS = {
    precision: Tolerance.model_validate(values)
    for precision, values in {
        "fp32": {"pixel_agreement": 0.999, "iou_agreement": 0.99, "miou_loss": 0.001},
        "fp16": {"pixel_agreement": 0.99, "iou_agreement": 0.95, "miou_loss": 0.005},
        "bf16": {"pixel_agreement": 0.97, "iou_agreement": 0.9, "miou_loss": 0.01},
        "int8": {"pixel_agreement": 0.9, "iou_agreement": 0.7, "miou_loss": 0.02},
    }.items()
}
"""What each precision may cost if the manifest does not say otherwise."""
