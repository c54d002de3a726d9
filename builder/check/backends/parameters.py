"""Values of `parameters`, which each backend reads by itself, and instances of a kind that it has not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from builder.check.findings import Finding, Level, Rule
from builder.check.model import Model

VALUE = Rule(
    "TMR703",
    "parameter-value",
    Level.ERROR,
    "A parameter of the backend has a value that it does not take.",
    "The backend reads it when it loads the model, and gives up.",
    "Write a value that the backend's documentation lists.",
    "pytorch_backend, onnxruntime_backend, openvino_backend, python_backend: their README and ParseParameters",
)
KIND = Rule(
    "TMR704",
    "instance-kind",
    Level.ERROR,
    "The backend does not run on what an instance group asks for.",
    "It refuses instances of any other kind.",
    "Correct the kind of the instance group.",
    "tensorrt_backend: src/instance_state.cc",
)
OPTIONAL = Rule(
    "TMR705",
    "optional-input",
    Level.ERROR,
    "An input is optional, and the backend runs with all inputs alone.",
    "It refuses a config that says otherwise.",
    "Take `optional` away, or serve the model by a backend that has optional inputs, such as python.",
    "backend: src/backend_model.cc",
)
RULES: tuple[Rule, ...] = (VALUE, KIND, OPTIONAL)
TRUTHS = frozenset({"true", "on", "1", "false", "off", "0"})
NUMBER = re.compile(r"\s*[+-]?[0-9]")

Reads = Callable[[str], str]
"""What the server says of a value; empty: it takes it."""


def truth(value: str) -> str:
    return "" if value.lower() in TRUTHS else f"failed to convert '{value}' to boolean"


def number(value: str) -> str:
    """Digits at the beginning are enough."""
    return "" if NUMBER.match(value) else f"failed to convert '{value}' to integral number"


def check(model: Model, reads: Mapping[str, Reads]) -> Iterator[Finding]:
    for key, read in reads.items():
        if key in model.filled.parameters:
            value = model.filled.parameters[key].string_value
            if said := read(value):
                yield model.finding(
                    VALUE, f"the backend does not take {value!r} for {key}", "parameters", key, server=said
                )


def kinds(model: Model, allowed: Iterable[str], server: str) -> Iterator[Finding]:
    """Of the instance groups; AUTO is whatever there is."""
    for place, group in enumerate(model.filled.instance_group):
        name = group.DESCRIPTOR.enum_types_by_name["Kind"].values_by_number[group.kind].name
        if name not in ("KIND_AUTO", *allowed):
            message = f"{name} is nothing that the {model.filled.backend} backend runs on"
            yield model.finding(KIND, message, "instance_group", place, "kind", server=server)


def no_optional(model: Model) -> Iterator[Finding]:
    for place, given in enumerate(model.filled.input):
        if given.optional:
            server = f"'optional' is set to true for input '{given.name}'"
            message = f"input {given.name!r} is optional, which the {model.filled.backend} backend has not"
            yield model.finding(OPTIONAL, message, "input", place, "optional", server=server)
