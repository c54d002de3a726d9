"""The keys of an entry with `task: tensors`."""

from __future__ import annotations

import difflib
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictFloat, StrictInt, field_validator

from builder.data.arrays import ArraySet
from builder.data.sets import Text
from builder.tasks.spec import Keys, ModelSpec
from builder.tasks.tensors.limits import Tolerances, WrittenTolerances
from builder.triton.signature import ANY_SIZE, DATA_TYPES

Number = StrictInt | StrictFloat
Size = Annotated[StrictInt, Field(json_schema_extra={"anyOf": [{"const": ANY_SIZE}, {"minimum": 1}]})]


def _as_set(value: Any) -> Any:
    return {"data": value} if isinstance(value, str | list | tuple) else value


Sources = Text | Annotated[tuple[Text, ...], Field(min_length=1)] | ArraySet
Arrays = Annotated[ArraySet, BeforeValidator(_as_set, json_schema_input_type=Sources)]


class InputSpec(BaseModel):
    """One input of the network."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    dtype: str = Field(
        description="Triton's name of the data type, such as FP32 or INT64.", json_schema_extra={"enum": [*DATA_TYPES]}
    )
    shape: tuple[Size, ...] = Field(description="Without the batch axis; -1 is an axis of any size.")
    range: tuple[Number, Number] | None = Field(
        None, description="Of its numbers: the least, and the first that is too large."
    )

    @field_validator("dtype")
    @classmethod
    def _known(cls, value: str) -> str:
        if value in DATA_TYPES:
            return value
        if value.upper().removeprefix("TYPE_") in ("STRING", "BYTES"):
            raise ValueError("PyTorch has no tensors of text; give the network numbers, such as token ids")
        raise ValueError(f"there is no data type {value!r}; {_closest(value)}")

    @field_validator("shape")
    @classmethod
    def _possible(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        for size in value:
            if size < 1 and size != ANY_SIZE:
                raise ValueError(f"an axis has a size from 1 upwards, or -1 for any, not {size}")
        return value

    @field_validator("range")
    @classmethod
    def _ascending(cls, value: tuple[Any, Any] | None) -> tuple[Any, Any] | None:
        if value and not value[0] < value[1]:
            raise ValueError(f"the range [{value[0]}, {value[1]}] is empty; its second number is the first too large")
        return value


def _closest(value: str) -> str:
    """The data type that may be meant: others call them float32, long or TYPE_FP32."""
    text = value.lower().removeprefix("type_").removeprefix("torch.").removeprefix("np.")
    others = {"float": "FP32", "double": "FP64", "half": "FP16", "long": "INT64", "int": "INT32", "bool": "BOOL"}
    names = {other: name for name, other in DATA_TYPES.items()} | {name.lower(): name for name in DATA_TYPES} | others
    close = difflib.get_close_matches(text, names, n=1)
    return f"did you mean {names[close[0]]}?" if close else f"choose {', '.join(DATA_TYPES)}"


class TensorsSpec(ModelSpec):
    """An entry of any network, with any named inputs and outputs."""

    max_batch_size: StrictInt = Field(
        8, ge=0, le=1024, description="Largest batch the server forms; 0: the network does not batch, shapes are whole."
    )
    inputs: dict[str, InputSpec] = Field(
        default_factory=dict,
        description="By name, in the order of forward()'s arguments unless these have the same names. Default: as the "
        "samples are; a size that differs among them is any.",
    )
    outputs: dict[str, Text] | tuple[Text, ...] | None = Field(
        None,
        description="Names, in the order of the results, or those to choose of named ones; or a mapping from names to "
        "the network's own. Default: the network's own, or output_0, output_1, ...",
    )
    samples: Arrays | None = Field(
        None,
        description="What the artifact is compared with its network on: an .npz file or a list of them, or a callable "
        "that gives mappings from the inputs' names to arrays. Default: numbers drawn as `inputs` declares.",
    )
    calibration: Arrays | None = Field(
        None, description="What int8 is calibrated with: like what is to come, but not those of `samples`."
    )
    tolerance: WrittenTolerances = Field(
        default_factory=lambda: Tolerances.model_validate({}),
        description="Changes to what the precision may cost by default, of all outputs, or under an output's name.",
    )

    @property
    def is_batched(self) -> bool:
        return self.max_batch_size > 0

    @property
    def output_names(self) -> tuple[str, ...]:
        """Those that the entry gives."""
        return tuple(self.outputs or ())

    def files(self) -> dict[Keys, str]:
        """Beside those of every task, what the samples come from: under `data`, and its number in a list."""
        found = super().files()
        for key in ("samples", "calibration"):
            if wanted := getattr(self, key):
                is_list = not isinstance(wanted.data, str)
                for number, source in enumerate(wanted.sources):
                    found[(key, "data", number) if is_list else (key, "data")] = source
        return found
