"""How much an artifact's embeddings may differ from its network's."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, StrictFloat


class Tolerance(BaseModel):
    """What is left out has the precision's default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    cosine: StrictFloat | None = Field(
        None, ge=-1, le=1, description="Least cosine of the network's and the artifact's embedding of an image."
    )
    relative_error: StrictFloat | None = Field(
        None, ge=0, description="Largest distance of the two, over the largest distance that images make."
    )
    neighbour_agreement: StrictFloat | None = Field(
        None, ge=0, le=1, description="Least share of images whose nearest other image is the same."
    )


# Embeddings of an untrained network are nearly the same for all images, so that one that ignored its input could have
# any cosine. It cannot pass the error that is relative to what the images themselves change.
LIMITS = {
    precision: Tolerance.model_validate(values)
    for precision, values in {
        "fp32": {"cosine": 0.9999, "relative_error": 0.01, "neighbour_agreement": 1.0},
        "fp16": {"cosine": 0.999, "relative_error": 0.1, "neighbour_agreement": 0.95},
        "bf16": {"cosine": 0.99, "relative_error": 0.3, "neighbour_agreement": 0.9},
        "int8": {"cosine": 0.9, "relative_error": 0.75, "neighbour_agreement": 0.7},
    }.items()
}
"""What each precision may cost if the manifest does not say otherwise."""


def limits(precision: str, changes: Tolerance) -> Tolerance:
    """The precision's own limits with those that the manifest sets; the widest for a precision that is not known."""
    own = LIMITS.get(precision, LIMITS["int8"])
    return own.model_copy(update=changes.model_dump(exclude_unset=True))
