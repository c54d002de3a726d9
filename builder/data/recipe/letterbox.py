"""Pictures of any shape on a canvas of one size, without being distorted: the recipe's `letterbox:`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, model_validator

Side = Annotated[StrictInt, Field(ge=1, le=16384)]
Level = Annotated[StrictInt, Field(ge=0, le=255)]


def _as_pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def _as_colour(value: Any) -> Any:
    return (value,) * 3 if isinstance(value, int) and not isinstance(value, bool) else value


class Letterbox(BaseModel):
    """The whole picture, as large as the canvas takes it, and a border: `640` says as much as `{size: 640}`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    size: Annotated[tuple[Side, Side], BeforeValidator(_as_pair, json_schema_input_type=Side | tuple[Side, Side])] = (
        Field(description="Of the canvas, which the network gets: side, or [height, width].")
    )
    place: Literal["center", "corner"] = Field(
        "center", description="Where the picture lies: center, as YOLO has it, or corner (top left), as torchvision."
    )
    fill: Annotated[
        Literal["mean"] | tuple[Level, Level, Level],
        BeforeValidator(_as_colour, json_schema_input_type=Literal["mean"] | Level | tuple[Level, Level, Level]),
    ] = Field(
        (114, 114, 114),
        description="The border's colour: a level, [red, green, blue], or mean: that of `mean`, which becomes 0.",
    )
    shortest: Side | None = Field(
        None, description="The picture's shorter side at most: torchvision's min_size. Default: as the canvas allows."
    )
    longest: Side | None = Field(
        None, description="The picture's longer side at most: torchvision's max_size. Default: as the canvas allows."
    )

    @model_validator(mode="after")
    def _inside(self) -> Letterbox:
        if (self.shortest is None) != (self.longest is None):
            raise ValueError("shortest and longest are said together, as torchvision's min_size and max_size are")
        if self.longest is not None and self.longest > min(self.size):
            raise ValueError(f"longest {self.longest} does not fit in the canvas of {self.size[0]}x{self.size[1]}")
        return self

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Of a picture on the canvas, (width, height), of one pixel at least."""
        if self.shortest is not None and self.longest is not None:
            # torchvision's own arithmetic, whose sizes are cut off
            scale = min(self.shortest / min(width, height), self.longest / max(width, height))
            return max(1, int(width * scale)), max(1, int(height * scale))
        scale = min(self.size[0] / height, self.size[1] / width)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def origin(self, width: int, height: int) -> tuple[int, int]:
        """(left, top) of a resized picture on the canvas."""
        if self.place == "corner":
            return 0, 0
        return (self.size[1] - width) // 2, (self.size[0] - height) // 2
