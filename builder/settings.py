"""Groups of keys that an entry of the manifest may hold."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ImageSet(BaseModel):
    """Images, and how many of them to use: `DIR`, or `{data: DIR, samples: 256}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str = Field(
        min_length=1,
        description="A folder of images, searched through, or package.module:callable, or path/file.py:callable, "
        "that gives images: files, Pillow images, or pairs of one and its class, as torch datasets do.",
    )
    samples: int = Field(256, ge=1, le=100_000, description="How many at most, taken evenly.")


class Tolerance(BaseModel):
    """How much an artifact may differ from its network. What is left out has the precision's default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_abs_error: float | None = Field(None, ge=0, description="Of any probability.")
    mean_abs_error: float | None = Field(None, ge=0, description="Of the probabilities of all images and classes.")
    relative_error: float | None = Field(
        None, ge=0, description="Largest error of a log-probability over the largest difference that images make in it."
    )
    noise: float | None = Field(
        None,
        ge=0,
        description="Error of the log-probabilities over what images change in them (root mean squares).",
    )
    top1_agreement: float | None = Field(None, ge=0, le=1, description="Least share of images with the same answer.")
    top5_agreement: float | None = Field(
        None, ge=0, le=1, description="Least share of images whose answer is among the artifact's first five."
    )
    accuracy_loss: float | None = Field(
        None, ge=0, le=1, description="Share of labelled images that may be lost, network to artifact."
    )


class PlanSettings(BaseModel):
    """How a TensorRT plan is built."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    optimum_batch_size: int | None = Field(
        None, ge=1, le=1024, description="The batch to be fastest at. Default: max_batch_size."
    )
    workspace_mib: int = Field(4096, ge=16, description="Memory that TensorRT may try tactics with.")
    builder: Literal["auto", "python", "trtexec"] = Field(
        "auto",
        description="python: the tensorrt package of this machine. trtexec: that of the serving image, in Docker. "
        "auto: python if it can be imported.",
    )
    image: str | None = Field(None, description="The serving image. Default: the newest that is known.")
