"""The keys of an entry that finds objects."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, field_validator

from builder.data.sets import ImageSet, Text, UserText
from builder.tasks.detection.limits import Tolerance
from builder.tasks.images.spec import LabelledSpec
from builder.tasks.spec import Keys


class AnnotatedSet(ImageSet):
    """Images, and perhaps what is in them: `{data: DIR, annotations: coco.json}`."""

    annotations: UserText | None = Field(
        None, description="COCO's JSON: images by file_name below `data`, boxes, and categories named as the labels."
    )


class Output(BaseModel):
    """What a network gives that is none of torchvision's: `{layout: yolo, box: cxcywh}`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    layout: Literal["boxes_scores", "yolo"] = Field(
        description="boxes_scores: two tensors, boxes [B, N, 4] and scores per class [B, N, C]. yolo: one, "
        "[B, 4 + classes, N], of whose boxes each is of its best class alone."
    )
    box: Literal["xyxy", "cxcywh", "xywh"] | None = Field(
        None,
        description="Of the four numbers: corners, middle and size, or first corner and size. Default: xyxy, or "
        "cxcywh of yolo.",
    )
    normalized: StrictBool = Field(
        False, description="Whether boxes are shares of the network's input, not its pixels."
    )
    background: StrictInt | None = Field(None, ge=0, description="The class that is none, where the scores have one.")
    activation: Literal["none", "sigmoid", "softmax"] = Field(
        "none", description="What makes scores from 0 to 1 of what the network gives. none: they are."
    )


class Detection(LabelledSpec):
    """An entry of `task: detection`: `{network: ssdlite320_mobilenet_v3_large, task: detection}`."""

    output: Output | None = Field(
        None, description="What the network gives, where it is none of torchvision's detectors."
    )
    score_threshold: StrictFloat | None = Field(
        None, ge=0, lt=1, description="Detections are above it. Default: the network's own, or 0.25."
    )
    iou_threshold: StrictFloat | None = Field(
        None,
        gt=0,
        le=1,
        description="Of a class, boxes that overlap a better one more are left out. Default: the "
        "network's own, or 0.45.",
    )
    max_detections: StrictInt = Field(100, ge=1, le=1000, description="At most so many a picture, the best.")
    images: AnnotatedSet | None = Field(
        None, description="Images to verify with, perhaps annotated. Default: photos that come with this tool."
    )
    tolerance: Tolerance = Field(
        default_factory=lambda: Tolerance.model_validate({}),
        description="Changes to what the precision may cost by default.",
    )

    def files(self) -> dict[Keys, str]:
        annotations = self.images.annotations if self.images else None
        return super().files() | ({("images", "annotations"): annotations} if annotations else {})

    @field_validator("images", mode="before", json_schema_input_type=Text | AnnotatedSet | None)
    @classmethod
    def _as_annotated_set(cls, value: Any) -> Any:
        return {"data": value} if isinstance(value, str) else value
