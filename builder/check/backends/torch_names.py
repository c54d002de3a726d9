"""How LibTorch's backend matches tensors to forward(): by name, else by index, else silently by order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from builder.check.backends.reading_torchscript import Forward
from builder.check.findings import Finding, Level, Rule
from builder.check.model import Model

SOURCE = "pytorch_backend: src/model_instance_state.cc GetNamingConvention"
MISORDERED = Rule(
    "TMR822",
    "torchscript-names-misordered",
    Level.WARNING,
    "An input bears the name of one argument of forward(), and is given to another.",
    "One name that is no argument's is enough: then the backend goes by the index in names, or by the config's order.",
    "Name all inputs as the arguments are, or NAME__INDEX by their places.",
    SOURCE,
)
BY_ORDER = Rule(
    "TMR823",
    "torchscript-inputs-by-order",
    Level.WARNING,
    "Inputs are neither named as forward()'s arguments nor NAME__INDEX.",
    "The backend gives them to forward() in the order of the config, with a line in the log.",
    "Name them as the arguments are, or NAME__INDEX.",
    SOURCE,
)
INDEX = Rule(
    "TMR824",
    "torchscript-index",
    Level.WARNING,
    "The indices in the names of inputs or outputs are not each place once.",
    "Two tensors get one place, or one gets a place that is not there, and requests fail.",
    "Count the indices from 0, in the order of forward()'s arguments and results.",
    SOURCE,
)
PACKAGE = Rule(
    "TMR825",
    "package-tensor-name",
    Level.WARNING,
    "A tensor of an AOTInductor package is not named INPUT__INDEX or OUTPUT__INDEX.",
    "Packages have no names of their own, and newer releases refuse other ones.",
    "Name inputs INPUT__0, INPUT__1, ... and outputs OUTPUT__0, OUTPUT__1, ...",
    "pytorch_backend: src/pt2/model_instance_state.cc",
)
RULES: tuple[Rule, ...] = (MISORDERED, BY_ORDER, INDEX, PACKAGE)
OWN_NAMES = {"input": re.compile(r"INPUT__[0-9]+|K?W?ARGS.*"), "output": re.compile(r"OUTPUT__[0-9]+|RESULT.*")}


def check(model: Model, found: Forward) -> Iterator[Finding]:
    if not found.takes_dictionary:
        yield from _inputs(model, found)
    names = [each.name for each in model.filled.output]
    indices = [index_of(name) for name in names]
    if None not in indices:
        yield from _indices(model, "output", [index or 0 for index in indices], found.results)


def index_of(name: str) -> int | None:
    """Of NAME__INDEX, as the backend reads it; None: it has none."""
    _, mark, digits = name.partition("__")
    return int(digits or 0) if mark and (not digits or (digits.isascii() and digits.isdigit())) else None


def _inputs(model: Model, found: Forward) -> Iterator[Finding]:
    names = [each.name for each in model.filled.input]
    arguments = [argument.name for argument in found.arguments]
    if len(names) != len(arguments) or all(name in arguments for name in names):
        return
    indices = [index_of(name) for name in names]
    if None in indices:
        yield from _by_order(model, names, arguments)
        return
    known = [index or 0 for index in indices]
    yield from _indices(model, "input", known, len(arguments))
    for place, (name, index) in enumerate(zip(names, known, strict=True)):
        base = name.partition("__")[0]
        if base in arguments and index < len(arguments) and arguments[index] != base:
            message = f"input {name!r} is given to {arguments[index]}, the argument at {index}, not to {base}"
            yield model.finding(MISORDERED, message, "input", place, "name")


def _by_order(model: Model, names: Sequence[str], arguments: Sequence[str]) -> Iterator[Finding]:
    strangers = [name for name in names if name not in arguments]
    pairs = enumerate(zip(names, arguments, strict=True))
    wrong = [(place, name, given) for place, (name, given) in pairs if name in arguments and name != given]
    for place, name, given in wrong:
        message = f"input {name!r} is given to {given}, since {strangers[0]!r} is no argument of forward()"
        yield model.finding(MISORDERED, message, "input", place, "name")
    if len(names) > 1 and not wrong:
        takes = f"forward({', '.join(arguments)}), which takes the inputs in order"
        message = f"not all of {', '.join(names)} are arguments of {takes}"
        yield model.finding(BY_ORDER, message, "input", names.index(strangers[0]), "name")


def _indices(model: Model, field: str, indices: Sequence[int], places: int | None) -> Iterator[Finding]:
    twice = sorted(index for index, count in Counter(indices).items() if count > 1)
    if twice:
        yield model.finding(INDEX, f"several {field}s have the index {twice[0]}", field)
    beyond = [index for index in indices if places is not None and index >= places]
    if beyond and not twice:
        does = "takes" if field == "input" else "gives"
        message = f"forward() {does} {places}, and the config has an {field} with the index {beyond[0]}, counted from 0"
        yield model.finding(INDEX, message, field, indices.index(beyond[0]), "name")


def of_package(model: Model) -> Iterator[Finding]:
    for field, pattern in OWN_NAMES.items():
        for place, each in enumerate(getattr(model.filled, field)):
            if not pattern.fullmatch(each.name):
                yield model.finding(
                    PACKAGE, f"{field} {each.name!r} has no name that packages have", field, place, "name"
                )
