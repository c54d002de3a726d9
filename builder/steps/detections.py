"""A detector's candidates, or its raw answer, to the objects of the picture: thresholds, NMS, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from builder.steps.pillow_placed import PLACEMENT
from builder.triton.signature import (
    BOXES_OUTPUT,
    CLASSES_OUTPUT,
    COUNT_OUTPUT,
    SCORES_OUTPUT,
    Signature,
    TensorSpec,
)

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

ROLE = "postprocess"
MODEL_FILE = Path(__file__).parent.parent / "runtimes" / "detections" / "model.py"
PACKAGES: tuple[str, ...] = ()
GIVEN = "GIVEN"


class DetectionSettings(BaseModel):
    """What the step is told of its network, and of what is wanted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    """What the network gives, in its order: Triton's data type and the shape of each."""
    network_size: tuple[int, int]
    """[height, width] of the network's input."""
    layout: Literal["candidates", "boxes_scores", "yolo"] = "candidates"
    """candidates: boxes [K, 4], scores [K], classes [K]. boxes_scores: [N, 4], [N, C]. yolo: [4 + C, N]."""
    box: Literal["xyxy", "cxcywh", "xywh"] = "xyxy"
    normalized: bool = False
    """Whether boxes are shares of the network's input, not its pixels."""
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    background: int | None = None
    """The class that is none."""
    score_threshold: float
    iou_threshold: float
    max_detections: int


def signature(settings: DetectionSettings) -> Signature:
    given = tuple(TensorSpec(f"{GIVEN}__{n}", kind, shape) for n, (kind, shape) in enumerate(settings.tensors))
    return Signature((*given, PLACEMENT), detections(settings.max_detections))


def detections(most: int) -> tuple[TensorSpec, ...]:
    """What clients get; rows from COUNT on are zeros."""
    return (
        TensorSpec(BOXES_OUTPUT, "FP32", (most, 4)),
        TensorSpec(SCORES_OUTPUT, "FP32", (most,)),
        TensorSpec(CLASSES_OUTPUT, "INT32", (most,)),
        TensorSpec(COUNT_OUTPUT, "INT32", (1,)),
    )


def function(settings: DetectionSettings) -> Callable[..., tuple[Array, Array, Array]]:
    """What the network gives for one picture, and where that lies in it -> boxes [n, 4], scores [n], classes [n].

    It raises ValueError for answers that are no numbers.
    """
    from builder.runtimes.detections import model

    return model.Detector(settings.model_dump())
