"""What an ensemble's own config says: its steps, and the tensors between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from builder.check.findings import Edit, Finding, Level, Rule
from builder.check.model import Context, Model
from builder.check.rules import flow

SOURCE = "core: src/model_config_utils.cc (ValidateEnsembleSchedulingConfig)"


def _refusal(code: str, name: str, summary: str, why: str, mend: str) -> Rule:
    return Rule(code, name, Level.ERROR, summary, why, mend, SOURCE)


NO_SCHEDULING = _refusal(
    "TMR601",
    "ensemble-without-scheduling",
    "The platform is ensemble, and there is no ensemble_scheduling.",
    "An ensemble is nothing but its steps.",
    "Write the steps into ensemble_scheduling, or name the backend that runs the model instead of the platform.",
)
OTHER_PLATFORM = _refusal(
    "TMR602",
    "steps-without-ensemble",
    "There is an ensemble_scheduling, and the platform is not ensemble.",
    "The server runs steps only for ensembles, and a backend's model has none.",
    'Write platform: "ensemble" and no backend, or leave out ensemble_scheduling.',
)
INSTANCES = _refusal(
    "TMR603",
    "ensemble-with-instances",
    "An ensemble has an instance_group.",
    "An ensemble runs nowhere itself; the instances are those of its steps' models.",
    "Move the instance_group to the models of the steps.",
)
OPTIMIZATION = _refusal(
    "TMR604",
    "ensemble-with-optimization",
    "An ensemble has optimization settings, if only empty ones.",
    "An ensemble runs nothing itself that could be optimized.",
    "Move the settings to the models of the steps.",
)
WARMUP = _refusal(
    "TMR605",
    "ensemble-with-warmup",
    "An ensemble has a model_warmup.",
    "The server warms up instances, and an ensemble has none.",
    "Move the warm-up to the models of the steps.",
)
NO_STEPS = _refusal(
    "TMR606",
    "ensemble-without-steps",
    "An ensemble has no step.",
    "Nothing would make its outputs.",
    "Write a step for each model that it asks.",
)
NO_MODEL = _refusal(
    "TMR607",
    "step-without-model",
    "A step names no model.",
    "The server does not know whom to ask.",
    "Write model_name into the step.",
)
NO_INPUTS = _refusal(
    "TMR608",
    "step-without-input-map",
    "A step has no input_map.",
    "The step would begin with nothing, and never be reached.",
    "Map each input of the step's model (key) to a tensor of the ensemble (value).",
)
NO_OUTPUTS = _refusal(
    "TMR609",
    "step-without-output-map",
    "A step has no output_map.",
    "Nothing of what the step makes would be used.",
    "Map the outputs of the step's model that are used (key) to tensors of the ensemble (value).",
)
WRITTEN_TWICE = _refusal(
    "TMR610",
    "tensor-written-twice",
    "Two outputs of steps are mapped to one tensor of the ensemble.",
    "The server cannot tell which of them is meant.",
    "Give each output a tensor of its own.",
)
UNUSED_INPUT = _refusal(
    "TMR611",
    "ensemble-input-unused",
    "No step reads an input of the ensemble.",
    "Clients would have to send what nobody looks at.",
    "Map it to an input of a step, or leave it out.",
)
UNKNOWN_OUTPUT = _refusal(
    "TMR612",
    "ensemble-output-unknown",
    "No step has an output of the ensemble in a map.",
    "Nothing would ever make it.",
    "Map an output of a step to it, or leave it out.",
)
UNWRITTEN = _refusal(
    "TMR613",
    "tensor-not-written",
    "A step reads a tensor that is no input of the ensemble, and that no step writes.",
    "The step would wait for ever.",
    "Map an output of an earlier step to this tensor, or declare it as an input of the ensemble.",
)
CIRCLE = _refusal(
    "TMR614",
    "tensors-in-a-circle",
    "Steps wait for each other's outputs.",
    "None of them can begin.",
    "Break the circle: a step may read only what earlier steps and the client have made.",
)
UNUSED = _refusal(
    "TMR615",
    "tensor-unused",
    "A step writes a tensor that no step reads and that is no output of the ensemble.",
    "The server takes it for a mistake.",
    "Leave it out of the output_map, or declare it as an output of the ensemble.",
)
OVERWRITTEN = Rule(
    "TMR616",
    "input-overwritten",
    Level.WARNING,
    "A step writes to a tensor that is an input of the ensemble.",
    "The tensor then has two values, of the client and of the step, and who reads it may get either.",
    "Give the step's output a name of its own.",
    "core: src/ensemble_scheduler/ensemble_scheduler.cc",
)
RULES: tuple[Rule, ...] = (
    *(NO_SCHEDULING, OTHER_PLATFORM, INSTANCES, OPTIMIZATION, WARMUP, NO_STEPS, NO_MODEL, NO_INPUTS, NO_OUTPUTS),
    *(WRITTEN_TWICE, UNUSED_INPUT, UNKNOWN_OUTPUT, UNWRITTEN, CIRCLE, UNUSED, OVERWRITTEN),
)

SCHEDULING = "ensemble_scheduling"


def check(model: Model, context: Context) -> Iterator[Finding]:
    del context
    config = model.filled
    if config.HasField(SCHEDULING):
        yield from _misplaced(model, config)
        yield from _steps(model, config)
        if config.ensemble_scheduling.step:
            yield from _tensors(model, config)
    elif config.platform == "ensemble" and not config.backend:
        said = f"ensemble scheduling must be set for ensemble {config.name} whose platform is ensemble"
        yield model.finding(NO_SCHEDULING, "the ensemble has no ensemble_scheduling", "platform", server=said)


def _misplaced(model: Model, config: Any) -> Iterator[Finding]:
    """What must not stand in an ensemble."""
    name = config.name
    if config.platform != "ensemble" and config.backend:
        said = f"ensemble scheduling cannot be set for model '{name}' whose platform is not ensemble"
        message = f"the model has an ensemble_scheduling, and the backend {config.backend!r}"
        yield model.finding(OTHER_PLATFORM, message, SCHEDULING, server=said)
    if config.instance_group:
        said = f"instance group should not be specified for ensemble '{name}'"
        yield model.finding(INSTANCES, "the ensemble has an instance_group", "instance_group", server=said)
    if config.HasField("optimization"):
        said = f"optimization should not be specified for ensemble '{name}'"
        yield model.finding(OPTIMIZATION, "the ensemble has optimization settings", "optimization", server=said)
    if config.model_warmup:
        said = f"model_warmup can not be specified for ensemble '{name}'"
        yield model.finding(WARMUP, "the ensemble has a model_warmup", "model_warmup", server=said)


def _steps(model: Model, config: Any) -> Iterator[Finding]:
    if not config.ensemble_scheduling.step:
        said = f"must specify 'step' for ensemble '{config.name}'"
        yield model.finding(NO_STEPS, "the ensemble has no step", SCHEDULING, server=said)
    for index, step in enumerate(config.ensemble_scheduling.step):
        for rule, field in ((NO_MODEL, "model_name"), (NO_INPUTS, "input_map"), (NO_OUTPUTS, "output_map")):
            if not getattr(step, field):
                said = f"must specify '{field}' in step {index} of ensemble '{config.name}'"
                message = f"step {index}{_of(step.model_name)} has no {field}"
                yield model.finding(rule, message, SCHEDULING, "step", index, server=said)


def _of(name: str) -> str:
    return f" (model {name!r})" if name else ""


def _tensors(model: Model, config: Any) -> Iterator[Finding]:
    """One finding for each mistake; what comes of a tensor that is not written is not told again."""
    graph = flow.of(config)
    ready = flow.ready(config, graph)
    yield from _written_twice(model, config)
    yield from _not_mapped(model, config, graph)
    lost = [output.name for output in config.output if output.name in graph and output.name not in ready]
    said = f"output '{lost[0]}' for ensemble '{config.name}' is not written" if lost else _unused(config)
    yield from _not_ready(model, graph, ready, said)
    outputs = {output.name for output in config.output}
    for name in ready - outputs:
        if (writer := graph[name].written) and not graph[name].read:
            message = f"the tensor {name!r} that step {writer[0].step} writes is used nowhere"
            said = f"ensemble tensor '{name}' is unused in ensemble '{config.name}'"
            yield model.finding(UNUSED, message, *writer[0].path, server=_unused(config) if len(ready) > 1 else said)


def _unused(config: Any) -> str:
    """Which of several the server names depends on the order of a hash table."""
    return f"' is unused in ensemble '{config.name}'"


def _written_twice(model: Model, config: Any) -> Iterator[Finding]:
    first: dict[str, int] = {}
    inputs = {one.name for one in config.input}
    for end in flow.outputs(config):
        if end.tensor in first:
            said = f"ensemble tensor '{end.tensor}' can appear in an output map only once for ensemble '{config.name}'"
            message = f"the tensor {end.tensor!r} is written by step {first[end.tensor]}, and by step {end.step} again"
            yield model.finding(WRITTEN_TWICE, message, *end.path, server=said)
        elif end.tensor in inputs:
            message = f"step {end.step} writes to {end.tensor!r}, which is an input of the ensemble"
            yield model.finding(OVERWRITTEN, message, *end.path)
        first.setdefault(end.tensor, end.step)


def _not_mapped(model: Model, config: Any, graph: flow.Graph) -> Iterator[Finding]:
    for field, rule in (("input", UNUSED_INPUT), ("output", UNKNOWN_OUTPUT)):
        for index, one in enumerate(getattr(config, field)):
            if one.name not in graph:
                said = f"ensemble {field} '{one.name}' for ensemble {config.name}' is not used"
                message = f"the {field} {one.name!r} of the ensemble is in no map of a step"
                yield model.finding(rule, message, field, index, server=said)


def _not_ready(model: Model, graph: flow.Graph, ready: set[str], said: str) -> Iterator[Finding]:
    waiting = [name for name in graph if name not in ready]
    roots = [name for name in waiting if not graph[name].written]
    for name in roots:
        reader = graph[name].read[0]
        message = f"step {reader.step} reads {name!r}, which is no input of the ensemble, and which no step writes"
        yield model.finding(UNWRITTEN, message, *reader.path, server=said)
    if waiting and not roots:
        message = f"steps wait for each other: the tensors {', '.join(map(repr, waiting[:10]))} can never be made"
        yield model.finding(CIRCLE, message, *graph[waiting[0]].written[0].path, server=said)


def edit_of(start: int, end: int, text: str) -> tuple[Edit, ...]:
    return (Edit(start, end, text),)
