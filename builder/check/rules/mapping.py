"""The maps of an ensemble's steps, held to the inputs and outputs of their models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.check.findings import Finding, Level, Rule
from builder.check.model import Model
from builder.check.rules import flow

SOURCE = "core: src/ensemble_scheduler/ensemble_utils.cc"


def _refusal(code: str, name: str, summary: str, why: str, mend: str) -> Rule:
    return Rule(code, name, Level.ERROR, summary, why, mend, SOURCE)


UNKNOWN_INPUT = _refusal(
    "TMR630",
    "step-input-unknown",
    "A step's input_map has a key that is no input of its model.",
    "The model would not know what to do with the tensor.",
    "Write the name of one of the model's inputs as the key; the value is the ensemble's tensor.",
)
UNKNOWN_OUTPUT = _refusal(
    "TMR631",
    "step-output-unknown",
    "A step's output_map has a key that is no output of its model.",
    "The tensor would never be made.",
    "Write the name of one of the model's outputs as the key; the value is the ensemble's tensor.",
)
UNMAPPED = _refusal(
    "TMR632",
    "step-input-unmapped",
    "A step gives its model nothing for an input that is not optional.",
    "The model cannot be asked without it.",
    "Map a tensor of the ensemble to it, or make it optional in the model's config.",
)
TYPE = _refusal(
    "TMR633",
    "step-data-type-differs",
    "A tensor of the ensemble has another data type on its other end.",
    "The server converts nothing between steps.",
    "Declare one data type on both ends, or put a step between them that converts.",
)
SHAPE = _refusal(
    "TMR634",
    "step-shape-differs",
    "A tensor of the ensemble has another shape on its other end.",
    "The server reshapes nothing between steps; only -1 agrees with every size.",
    "Declare the same dims on both ends. A model with max_batch_size has its batch in front of them.",
)
DOUBLED = _refusal(
    "TMR636",
    "step-output-declared-twice",
    "A step maps an output that its model declares twice.",
    "The server takes it for two outputs that are mapped to one tensor.",
    "Declare the output once in the model's config.",
)
MIXED = _refusal(
    "TMR637",
    "decoupled-steps-mixed",
    "A step, or the client, would get tensors of different decoupled models, or of one and of none.",
    "A decoupled model answers as often as it likes, so that the server cannot tell which tensors belong together.",
    "Let all that is needed together come through the same decoupled step.",
)
RULES: tuple[Rule, ...] = (UNKNOWN_INPUT, UNKNOWN_OUTPUT, UNMAPPED, TYPE, SHAPE, DOUBLED, MIXED)


@dataclass(frozen=True)
class _Known:
    """What is known of a tensor of the ensemble, and from whom."""

    model: str
    type: int
    dims: tuple[int, ...]
    is_batched: bool

    @property
    def full(self) -> tuple[int, ...]:
        return (-1, *self.dims) if self.is_batched else self.dims


def check(model: Model, models: Mapping[str, Model], is_strict: bool) -> Iterator[Finding]:
    """`models` are those of the steps that the server would load, by name."""
    known = _declared(model)
    for index, step in enumerate(model.filled.ensemble_scheduling.step):
        if (asked := models.get(step.model_name)) is not None:
            is_open = not is_strict and may_grow(asked)
            yield from _inputs(model, asked, index, step, known, is_open)
            yield from _outputs(model, asked, index, step, known, is_open)
    yield from _mixed(model, models)


def may_grow(asked: Model) -> bool:
    """Whether its backend may add to the config what nobody can know who does not run it."""
    backend = asked.filled.backend
    if backend != "python":
        return bool(backend == "vllm")
    try:
        folder = asked.version_folders[max(asked.served)]
        text = (folder / (asked.filled.default_model_filename or "model.py")).read_bytes()
    except (OSError, ValueError, KeyError):
        return True
    return b"auto_complete_config" in text


def _declared(model: Model) -> dict[str, _Known]:
    config, known = model.filled, dict[str, _Known]()
    for one in (*config.input, *config.output):
        dims = one.reshape.shape if one.HasField("reshape") else one.dims
        known.setdefault(one.name, _Known(model.name, one.data_type, tuple(dims), config.max_batch_size > 0))
    return known


def _inputs(
    model: Model, asked: Model, index: int, step: Any, known: dict[str, _Known], is_open: bool
) -> Iterator[Finding]:
    names = [one.name for one in asked.filled.input]
    for end in _ends(index, step, "input_map"):
        if names and not is_open and end.key not in names:
            said = f"ensemble tensor {end.tensor} is mapping to non-existing input {end.key} in model {asked.name}"
            yield model.finding(UNKNOWN_INPUT, _unknown(end, asked, "input", names), *end.path, server=said)
    for one in asked.filled.input:
        if one.name in step.input_map:
            end = flow.End(index, "input_map", one.name, step.input_map[one.name])
            yield from _agreement(model, asked, one, end, known, is_open)
        elif step.input_map and not one.optional:
            said = f"input {one.name} in model {asked.name} is not mapped to any ensemble tensors"
            message = f"step {index} maps nothing to the input {one.name!r} of {asked.name!r}"
            yield model.finding(UNMAPPED, message, "ensemble_scheduling", "step", index, "input_map", server=said)


def _outputs(
    model: Model, asked: Model, index: int, step: Any, known: dict[str, _Known], is_open: bool
) -> Iterator[Finding]:
    names = [one.name for one in asked.filled.output]
    for end in _ends(index, step, "output_map"):
        if names and not is_open and end.key not in names:
            said = f"ensemble tensor {end.tensor} is mapped from non-existing output {end.key} in model {asked.name}"
            yield model.finding(UNKNOWN_OUTPUT, _unknown(end, asked, "output", names), *end.path, server=said)
        for one in asked.filled.output:
            if one.name == end.key:
                yield from _agreement(model, asked, one, end, known, is_open)
        if names.count(end.key) > 1:
            said = f"multiple outputs in model {asked.name} are mapped to the same ensemble tensor {end.tensor}"
            message = f"step {index} maps the output {end.key!r}, which {asked.name!r} declares twice"
            yield model.finding(DOUBLED, message, *end.path, server=said)


def _ends(index: int, step: Any, kind: str) -> Iterator[flow.End]:
    return (flow.End(index, kind, key, tensor) for key, tensor in sorted(getattr(step, kind).items()))


def _unknown(end: flow.End, asked: Model, what: str, names: Sequence[str]) -> str:
    has = ", ".join(map(repr, names[:20]))
    swapped = f"; {end.tensor!r} is one: the key is the model's name" if end.tensor in names else ""
    return f"step {end.step} maps {end.key!r}, which is no {what} of {asked.name!r} ({what}s: {has}){swapped}"


def _agreement(
    model: Model, asked: Model, one: Any, end: flow.End, known: dict[str, _Known], is_open: bool
) -> Iterator[Finding]:
    """Of one end of a tensor with the end that the server saw first; a model that is open may yet have batches."""
    new = _Known(asked.name, one.data_type, tuple(one.dims), asked.filled.max_batch_size > 0)
    if not (new.type and new.dims):
        return
    old = known.setdefault(end.tensor, new)
    if old.type != new.type:
        names = [_type_name(model, each.type) for each in (old, new)]
        said = f"data type: {names[0]} is inferred from model {old.model} while {names[1]} is inferred from model"
        message = f"the tensor {end.tensor!r} is {names[0]} in {old.model!r}, and {names[1]} in {new.model!r}"
        yield model.finding(TYPE, message, *end.path, server=said)
    elif not any(_agree(*ends) for ends in _readings(old, new, is_open)):
        shapes = [_shown(each.full) for each in (old, new)]
        said = f"shape: {shapes[0]} is inferred from model {old.model} while {shapes[1]} is inferred from model"
        message = f"the tensor {end.tensor!r} is {shapes[0]} in {old.model!r}, and {shapes[1]} in {new.model!r}"
        yield model.finding(SHAPE, f"{message}{_batches(old, new)}", *end.path, server=said)


def _readings(old: _Known, new: _Known, is_open: bool) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    yield old.dims, new.dims
    yield old.full, new.full
    if is_open:
        yield old.full, (-1, *new.dims)


def _agree(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    return len(left) == len(right) and all(a == b or -1 in (a, b) for a, b in zip(left, right, strict=True))


def _shown(dims: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, dims))}]"


def _batches(old: _Known, new: _Known) -> str:
    batched = [each.model for each in (old, new) if each.is_batched]
    return f" (with the batch of {' and '.join(map(repr, dict.fromkeys(batched)))} in front)" if batched else ""


def _type_name(model: Model, number: int) -> str:
    types = model.filled.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number
    return str(types[number].name) if number in types else str(number)


def is_decoupled(model: Model, models: Mapping[str, Model]) -> bool:
    return any(_labels(model, models)[0].values())


def _mixed(model: Model, models: Mapping[str, Model]) -> Iterator[Finding]:
    labels, mixed = _labels(model, models)
    said = "receives inputs originated from different decoupled models"
    for index in mixed:
        message = f"step {index} reads tensors of different decoupled models, or of one and of none"
        yield model.finding(MIXED, message, "ensemble_scheduling", "step", index, server=said)
    outputs = {labels.get(one.name) for one in model.filled.output}
    if len(outputs) > 1 and None not in outputs and not mixed:
        message = "the ensemble's outputs come of different decoupled models, or of one and of none"
        yield model.finding(MIXED, message, "output", server=said)


def _labels(model: Model, models: Mapping[str, Model]) -> tuple[dict[str, int], list[int]]:
    """By tensor, which decoupled step it comes of (0: none); and the steps that read of several."""
    config = model.filled
    labels, mixed = {one.name: 0 for one in config.input}, list[int]()
    left = [(index, step) for index, step in enumerate(config.ensemble_scheduling.step) if step.input_map]
    if not any(_is_decoupled(models, step) for _, step in left):
        return labels, mixed
    while ready := [(index, step) for index, step in left if all(name in labels for name in step.input_map.values())]:
        left = [one for one in left if one not in ready]
        for index, step in ready:
            read = {labels[name] for name in step.input_map.values()}
            if len(read) > 1:
                mixed.append(index)
            label = index + 1 if _is_decoupled(models, step) else max(read)
            labels.update({name: label for name in step.output_map.values() if name not in labels})
    return labels, mixed


def _is_decoupled(models: Mapping[str, Model], step: Any) -> bool:
    asked = models.get(step.model_name)
    return asked is not None and bool(asked.filled.model_transaction_policy.decoupled)
