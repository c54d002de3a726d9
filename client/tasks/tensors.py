"""Named arrays to named arrays: any model, of whatever task, as its metadata describes it.

What the metadata tells to be wrong is refused before anything is sent.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from client.errors import InvalidInput, ServerError
from client.tasks import arrays, values
from client.tasks.exchange import Columns, Exchange
from client.types import Image, Inference, ModelInfo, Output, Tensor, TensorInfo

if TYPE_CHECKING:
    from client.types import Array

PLURAL = "models of named tensors"
NAME = "tensors"
BY_VERSION = False


@dataclass(frozen=True)
class Request:
    inputs: Mapping[str, Any]
    """Arrays, or lists of exact values, by name."""
    outputs: Sequence[str] | None = None
    """None: all that the model has."""
    split: bool = False
    """Rows beyond the model's largest batch are asked for in parts."""


def takes(request: Any) -> bool:
    return isinstance(request, Request)


def recognises(info: ModelInfo) -> bool:
    """A model that says nothing may be of any task."""
    return False


def refusal(info: ModelInfo) -> str:
    """Any model can be asked so."""
    return ""


def check(info: ModelInfo, request: Request) -> None:
    """It is of no files, and looked at when it is encoded."""


def files(request: Request) -> Sequence[Image]:
    return ()


def encode(info: ModelInfo, request: Request, contents: Sequence[bytes]) -> Sequence[Inference]:
    outputs = tuple(Output(name) for name in _chosen(info, request.outputs))
    tensors = tuple(_tensor(info, wanted, request.inputs[wanted.name]) for wanted in _given(info, request.inputs))
    parts = _parts(info, tensors, request.split)
    return [Inference(info.name, part, outputs) for part in parts]


def decode(info: ModelInfo, request: Request, exchanges: Sequence[Exchange]) -> dict[str, Array]:
    found = {}
    for output in exchanges[0].inference.outputs:
        answers = [exchange.answer[output.name] for exchange in exchanges]
        given = [arrays.as_given(answer) for answer in answers if answer is not None]
        if len(given) == len(exchanges):
            found[output.name] = given[0] if len(given) == 1 else _joined(info, output.name, given, exchanges)
        elif request.outputs is not None:
            raise ServerError(f"{info.name} did not give {output.name}")
    return found


def columns(info: ModelInfo, request: Request) -> Columns:
    """A row an output."""
    kinds = {output.name: output.datatype for output in info.outputs}

    def rows(answer: Mapping[str, Array]) -> list[list[object]]:
        return [[name, kinds[name], list(array.shape), values.excerpt(array)] for name, array in answer.items()]

    def record(answer: Mapping[str, Array]) -> dict[str, Any]:
        return {"outputs": [values.record(name, kinds[name], array) for name, array in answer.items()]}

    return Columns(("OUTPUT", "TYPE", "SHAPE", "VALUES"), rows, record, {})


def _chosen(info: ModelInfo, wanted: Sequence[str] | None) -> list[str]:
    names = [output.name for output in info.outputs]
    if wanted is None:
        return names
    chosen = list(dict.fromkeys([wanted] if isinstance(wanted, str) else wanted))
    if not chosen:
        raise InvalidInput(f"no output is asked for; {info.name} has: {', '.join(names)}")
    _refuse_unknown(info, "output", chosen, names)
    return chosen


def _given(info: ModelInfo, inputs: Mapping[str, Any]) -> list[TensorInfo]:
    """The model's inputs that there are values for."""
    if not isinstance(inputs, Mapping):
        raise InvalidInput(f"inputs are a mapping from names to arrays, not a {type(inputs).__name__}")
    names = [wanted.name for wanted in info.inputs]
    _refuse_unknown(info, "input", inputs, names)
    lacking = [wanted for wanted in info.inputs if wanted.name not in inputs and wanted.name not in info.optional]
    if lacking:
        told = ", ".join(f"{one.name} ({one.datatype} {list(one.shape)})" for one in lacking)
        raise InvalidInput(f"{info.name} wants more inputs: {told}")
    return [wanted for wanted in info.inputs if wanted.name in inputs]


def _refuse_unknown(info: ModelInfo, kind: str, given: Iterable[Any], names: Sequence[str]) -> None:
    for name in given:
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise InvalidInput(f"{info.name} has no {kind} {name!r}; {hint}there are: {', '.join(names)}")


def _tensor(info: ModelInfo, wanted: TensorInfo, value: Any) -> Tensor:
    array = arrays.as_sent(value, wanted.datatype, f"{info.name}, input {wanted.name}")
    sides = zip(wanted.shape, array.shape, strict=False)
    if array.ndim != len(wanted.shape) or any(side not in (-1, given) for side, given in sides):
        rows = f", the first of which counts rows, {info.max_batch_size} at most" if info.max_batch_size else ""
        raise InvalidInput(
            f"{info.name}, input {wanted.name}: its shape is {list(array.shape)}, and the model takes "
            f"{list(wanted.shape)}{rows}; -1 is any size"
        )
    return Tensor(wanted.name, array, wanted.datatype)


def _parts(info: ModelInfo, tensors: tuple[Tensor, ...], split: bool) -> list[tuple[Tensor, ...]]:
    """The tensors in as many parts as the model's largest batch asks for."""
    most = info.max_batch_size
    if not most:
        if split:
            raise InvalidInput(f"{info.name} does not batch (max_batch_size: 0): its inputs are whole, and not split")
        return [tensors]
    rows = _rows(info, tensors)
    if rows > most and not split:
        raise InvalidInput(
            f"{info.name} takes at most {most} rows a request, not {rows}; with split=True (or --split) they are "
            "asked for in parts"
        )
    starts = range(0, rows, most)
    return [tuple(replace(t, data=t.data[start : start + most]) for t in tensors) for start in starts]


def _rows(info: ModelInfo, tensors: Sequence[Tensor]) -> int:
    counts = {tensor.name: len(tensor.data) for tensor in tensors}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InvalidInput(f"{info.name}: the first axis of each input counts the same rows, but there are: {told}")
    rows = next(iter(counts.values()), 1)
    if not rows:
        raise InvalidInput(f"{info.name}: the inputs have no rows")
    return rows


def _joined(info: ModelInfo, name: str, parts: Sequence[Array], exchanges: Sequence[Exchange]) -> Array:
    import numpy as np

    rows = [len(exchange.inference.tensors[0].data) for exchange in exchanges]
    if [part.shape[:1] for part in parts] != [(count,) for count in rows] or len({p.shape[1:] for p in parts}) > 1:
        shapes = ", ".join(str(list(part.shape)) for part in parts)
        raise InvalidInput(
            f"{info.name}: the parts' answers are no rows of one array, so that split does not fit: {name} has the "
            f"shapes {shapes}; ask for each part by itself"
        )
    return np.concatenate(parts)
