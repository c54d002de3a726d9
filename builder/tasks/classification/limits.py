"""How much an artifact may differ from its network."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, StrictFloat


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
