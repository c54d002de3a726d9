"""How much the outputs of an artifact may differ from its network's."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictFloat, model_serializer


class OutputTolerance(BaseModel):
    """How much one output may differ. What is left out has the precision's default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    max_abs_error: StrictFloat | None = Field(None, ge=0, description="Of any number.")
    mean_abs_error: StrictFloat | None = Field(None, ge=0, description="Of all numbers of all samples.")
    max_rel_error: StrictFloat | None = Field(
        None, ge=0, description="Largest error over the largest difference that samples make in the output."
    )
    noise: StrictFloat | None = Field(
        None, ge=0, description="Error over what samples change in the output (root mean squares)."
    )
    mismatches: StrictFloat | None = Field(
        None, ge=0, le=1, description="Share of the numbers of an integer or boolean output that may differ."
    )


class Tolerances(OutputTolerance):
    """The limits of all outputs, and by name those of single ones."""

    outputs: dict[str, OutputTolerance] = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _as_written(self, handler: Any) -> dict[str, Any]:
        """As the manifest has it, so that what is recorded of an entry can be read again."""
        found: dict[str, Any] = handler(self)
        return found | (found.pop("outputs", None) or {})


class WrittenTolerance(OutputTolerance):
    """For editors: limits, and outputs' names with limits of theirs."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, OutputTolerance]


def _by_output(value: Any) -> Any:
    """What has a mapping behind it is an output's name."""
    if not isinstance(value, Mapping):
        return value
    named = {key: limits for key, limits in value.items() if isinstance(limits, Mapping)}
    for name, limits in named.items():
        for key in limits:
            _require_key(name, key)
    return {key: limit for key, limit in value.items() if key not in named} | {"outputs": named}


def _require_key(name: str, key: Any) -> None:
    known = list(OutputTolerance.model_fields)
    if key not in known:
        close = difflib.get_close_matches(str(key), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
        raise ValueError(f"{name}: unknown key {key!r}; {hint}")


WrittenTolerances = Annotated[Tolerances, BeforeValidator(_by_output, json_schema_input_type=WrittenTolerance)]

# An output's numbers have any size, so that no absolute limit means anything by default: what the samples change in
# the output is the measure. An artifact that ignores its input errs by all of that: both figures are about 1 for it.
# `noise` looks at all numbers, and is what the arithmetic decides; `max_rel_error` finds the one that is wrong among
# millions, and is wider, as the largest of many errors is some ten times their root mean square.
# - fp32: sums in another order cost some 1e-6, and 1e-5 behind many layers; TF32 and bfloat16, which runtimes take
#   unasked, cost 3e-4 and 3e-3 at the least.
# - fp16 and bf16 have 11 and 8 bits; each layer rounds, and what the samples change is a part of what is rounded: an
#   untrained DenseNet's noise is 0.03 and 0.23.
# - int8 has 256 steps over the range that calibration saw: single numbers outside of it are clipped, however far they
#   are, so that only the whole can be asked.
LIMITS = {
    precision: OutputTolerance.model_validate(values)
    for precision, values in {
        "fp32": {"max_rel_error": 1e-3, "noise": 1e-4},
        "fp16": {"max_rel_error": 0.3, "noise": 0.1},
        "bf16": {"max_rel_error": 0.6, "noise": 0.3},
        "int8": {"noise": 0.6},
    }.items()
}
"""What each precision may cost of floating-point numbers if the manifest does not say otherwise."""
EXACT = OutputTolerance.model_validate({"mismatches": 0})
"""Of integers and booleans, whatever the precision: there is no nearly the same class."""


def limits(precision: str, is_floating: bool, name: str, written: Tolerances) -> OutputTolerance:
    """One output's: the precision's, changed by what the manifest says of all outputs, and of this one."""
    default = LIMITS.get(precision, LIMITS["int8"]) if is_floating else EXACT
    general = _given(written)
    if not is_floating:  # limits of all are meant for numbers that are rounded
        general = {key: value for key, value in general.items() if key == "mismatches"}
    own = written.outputs.get(name)
    return default.model_copy(update=general | (_given(own) if own else {}))


def _given(written: OutputTolerance) -> dict[str, float]:
    """A null, too, says nothing: what is recorded of an entry has one for each limit that it leaves out."""
    found = {key: getattr(written, key) for key in OutputTolerance.model_fields}
    return {key: value for key, value in found.items() if value is not None}
