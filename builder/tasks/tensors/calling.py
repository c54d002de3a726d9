"""How the inputs reach forward(), and its results the served outputs."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from builder.tasks.tensors.results import Layout

if TYPE_CHECKING:
    import torch
    from torch import nn


class Mismatch(ValueError):
    """Inputs that forward() cannot be given. `input`: the one at fault, where it is one."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.input = name


@dataclass(frozen=True)
class Arrangement:
    """The order of the inputs, and how many of them are given by position; the others by name."""

    order: tuple[str, ...]
    by_position: int

    def call(self, module: nn.Module, tensors: Sequence[torch.Tensor]) -> Any:
        named = dict(zip(self.order[self.by_position :], tensors[self.by_position :], strict=True))
        return module(*tensors[: self.by_position], **named)


def arranged(module: nn.Module, names: Sequence[str], are_declared: bool, told: Sequence[str] = ()) -> Arrangement:
    """How forward() takes inputs of these names: by its own, where it has them all, else in their order.

    `are_declared`: whether their order is the user's word. `told`: what a file calls those that it takes by position.
    Raises Mismatch.
    """
    if told:
        return _as_told(names, told)
    parameters = parameters_of(module)
    takes_any = any(one.kind is Parameter.VAR_KEYWORD for one in parameters)
    known = [one.name for one in parameters if one.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)]
    if set(names) <= set(known) or (takes_any and set(names) & set(known)):
        return _by_name(parameters, names)
    if shared := set(names) & set(known):
        _refuse_unknown([name for name in names if name not in shared], [name for name in known if name not in shared])
    return _by_position(parameters, names, are_declared)


def parameters_of(module: nn.Module) -> list[Parameter]:
    """forward()'s, without self. What tells none takes whatever it is given, by position."""
    try:
        if schema := getattr(module.forward, "schema", None):  # TorchScript's
            return [_of_schema(argument) for argument in schema.arguments[1:]]
        return list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError, RuntimeError):
        return [Parameter("tensors", Parameter.VAR_POSITIONAL)]


def _of_schema(argument: Any) -> Parameter:
    default = argument.default_value if argument.has_default_value() else Parameter.empty
    return Parameter(argument.name, Parameter.POSITIONAL_OR_KEYWORD, default=default)


def _as_told(names: Sequence[str], told: Sequence[str]) -> Arrangement:
    """In the file's order."""
    if unknown := [name for name in names if name not in told]:
        _refuse_unknown(unknown, [name for name in told if name not in names])
    _refuse_missing([name for name in told if name not in names], names)
    return Arrangement(tuple(told), len(told))


def _by_name(parameters: Sequence[Parameter], names: Sequence[str]) -> Arrangement:
    """In forward()'s own order, so that as many as possible go by position, which traced modules ask for."""
    _refuse_missing([one.name for one in _required(parameters) if one.name not in names], names)
    own = [one for one in parameters if one.name in names]
    order = (*(one.name for one in own), *(name for name in names if name not in {one.name for one in own}))
    leading = 0
    for one, name in zip(parameters, order, strict=False):
        if one.name != name or one.kind is Parameter.KEYWORD_ONLY:
            break
        leading += 1
    return Arrangement(order, leading)


def _by_position(parameters: Sequence[Parameter], names: Sequence[str], are_declared: bool) -> Arrangement:
    slots = [one for one in parameters if one.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
    is_open = any(one.kind is Parameter.VAR_POSITIONAL for one in parameters)
    takes = _listed([one.name for one in slots]) if slots else "tensors by position"
    if len(names) > len(slots) and not is_open:
        raise Mismatch(f"there are {len(names)} inputs, and forward() takes {takes}", names[len(slots)])
    if len(names) > 1 and not are_declared:
        raise Mismatch(
            f"forward() takes {takes}, and the samples have {_listed(names)}, so that nothing says which is which; "
            "give them forward()'s names, or declare `inputs` in the order of its arguments"
        )
    _refuse_missing([one.name for one in _required(parameters) if one not in slots[: len(names)]], names)
    return Arrangement(tuple(names), len(names))


def _required(parameters: Sequence[Parameter]) -> list[Parameter]:
    kinds = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return [one for one in parameters if one.default is Parameter.empty and one.kind not in kinds]


def _refuse_missing(missing: Sequence[str], names: Sequence[str]) -> None:
    if missing:
        raise Mismatch(
            f"the network needs {_listed(missing)} too, and the inputs are {_listed(names)}; give samples of "
            f"{'it' if len(missing) == 1 else 'them'}, or a default in forward()"
        )


def _refuse_unknown(unknown: Sequence[str], free: Sequence[str]) -> None:
    """Some names are forward()'s: the others are mistaken."""
    close = difflib.get_close_matches(unknown[0], free, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it takes {_listed(free)} besides" if free else "leave it out"
    raise Mismatch(f"the network takes no {unknown[0]!r}; {hint}", unknown[0])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def adapted(module: nn.Module, arrangement: Arrangement, layout: Layout) -> nn.Module:
    """A module that takes the inputs by position, in their order, and gives a tuple of the outputs.

    The network is a part of it, so that `.to(dtype)` and what quantises reach its parameters. One that does so itself
    is left as it is.
    """
    from torch import nn

    if layout.is_one_tensor and arrangement.by_position == len(arrangement.order):
        return module

    class Adapter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return layout.picked(arrangement.call(self.network, tensors))

    return Adapter().eval()
