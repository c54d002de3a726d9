"""Whether what two repositories serve under one name is one model, apart from the machines that it was built on."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from builder.repository import golden, layout
from builder.repository.served import REQUIREMENTS, Part, Served
from builder.util import hashing

# Fields of a config that name a model's place in its repository, or that are compared by themselves.
PLACES = {"name", "version_policy", "cc_model_filenames", "parameters", "model_warmup", "ensemble_scheduling"}
# What a step's config records of the machine that built it, and of when.
OF_A_MACHINE = {"threads", "builder", REQUIREMENTS}
WORDS = {layout.PREPROCESS: "preprocessing", layout.POSTPROCESS: "postprocessing"}


def differences(one: Served, other: Served) -> Iterator[str]:
    """A few words each."""
    if one.ensemble and other.ensemble:
        yield from _step_differences(one, other)
        yield from _part_differences(one, one.ensemble, other, other.ensemble)
    elif one.ensemble or other.ensemble:
        yield "one is an ensemble, and the other a network by itself"
        return
    yield from _part_differences(one, one.network, other, other.network)
    if not one.plans() and not _is_same_folder(one.network.folder, other.network.folder):
        yield "the artifacts differ, and only plans of different GPUs go together"


def _step_differences(one: Served, other: Served) -> Iterator[str]:
    if [step.role for step in one.steps] != [step.role for step in other.steps]:
        yield f"the steps differ ({_named(one)} and {_named(other)})"
        return
    for ours, theirs in zip(one.steps, other.steps, strict=True):
        if not is_same_step(ours, theirs):
            yield f"the {WORDS[ours.role]} differs ({ours.name} and {theirs.name})"
    if _calls(one) != _calls(other):
        yield "the tensors go other ways between the steps"


def _named(model: Served) -> str:
    return ", ".join(step.name for step in model.steps) or "none"


def _calls(model: Served) -> list[Any]:
    """Which part is asked when, and with which tensors."""
    places = {part.name: place for place, part in enumerate(model.parts)}
    calls = model.asked.config.ensemble_scheduling.step
    return [(places[call.model_name], dict(call.input_map), dict(call.output_map)) for call in calls]


def is_same_step(one: Part, other: Part) -> bool:
    """Whether both compute the same: steps are also named by the cores of the machine that built them."""
    return _computes(one) == _computes(other) and _is_same_folder(one.folder, other.folder)


def _computes(step: Part) -> Any:
    facts = {key: value for key, value in step.facts.items() if key not in OF_A_MACHINE}
    return facts, step.config.backend, list(step.config.input), list(step.config.output)


def _part_differences(one: Served, ours: Part, other: Served, theirs: Part) -> Iterator[str]:
    if _labels(ours) != _labels(theirs):
        yield "the labels differ"
    yield from _config_differences(ours.config, theirs.config)
    yield from _fact_differences(one.shared_facts(ours), other.shared_facts(theirs))


def _labels(part: Part) -> bytes | None:
    file = part.folder / layout.LABELS
    return file.read_bytes() if file.is_file() else None


def _config_differences(one: Any, other: Any) -> Iterator[str]:
    first, second = _without_places(one), _without_places(other)
    for descriptor in first.DESCRIPTOR.fields:
        values = [getattr(model, descriptor.name) for model in (first, second)]
        if values[0] != values[1]:
            is_simple = isinstance(values[0], (str, int))
            yield f"{descriptor.name} {f'is {values[0]} and {values[1]}' if is_simple else 'differs'}"


def _without_places(model: Any) -> Any:
    rest = type(model)()
    rest.CopyFrom(model)
    for name in PLACES:
        rest.ClearField(name)
    for output in rest.output:
        output.ClearField("label_filename")
    return rest


def _fact_differences(one: dict[str, str], other: dict[str, str]) -> Iterator[str]:
    # The recipes are compared themselves, and configs of before do not repeat what they say.
    for key in sorted({*one, *other} - {"tensorrt_version", layout.MAX_IMAGE_BYTES}):
        values = [facts.get(key, layout.UNSAID.get(key, "not recorded")) for facts in (one, other)]
        if values[0] != values[1]:
            yield f"{key} is {values[0]} and {values[1]}"


def _is_same_folder(one: Path, other: Path) -> bool:
    """Apart from configs and recorded answers."""
    names = [_names(folder) for folder in (one, other)]
    return names[0] == names[1] and all(filecmp.cmp(one / name, other / name, shallow=False) for name in names[0])


def _names(folder: Path) -> list[str]:
    """Of what is compared to the last bit, which answers on two machines are not."""
    paths = [file.relative_to(folder).as_posix() for file in hashing.files(folder)]
    return [path for path in paths if path not in (layout.CONFIG, golden.FILENAME)]
