"""An ensemble held to the models of its steps, as the server would have loaded them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from builder.check import order
from builder.check.findings import Edit, Finding, Level, Rule
from builder.check.model import Context, Model
from builder.check.policy import chosen
from builder.check.rules import mapping

MANAGER = "core: src/model_repository_manager/model_repository_manager.cc"


def _refusal(code: str, name: str, summary: str, why: str, mend: str) -> Rule:
    return Rule(code, name, Level.ERROR, summary, why, mend, MANAGER)


MISSING = _refusal(
    "TMR620",
    "step-model-missing",
    "A step asks a model that is in none of the repositories.",
    "The server loads an ensemble only with all of its models.",
    "Add the model, or write the name of the one that is meant.",
)
REFUSED = _refusal(
    "TMR621",
    "step-model-refused",
    "A step asks a model that the server refuses.",
    "The server loads an ensemble only with all of its models.",
    "Mend the model of the step; the ensemble itself may be right.",
)
CIRCLE = _refusal(
    "TMR622",
    "ensembles-in-a-circle",
    "An ensemble asks itself, by its steps or theirs.",
    "None of the ensembles in the circle can be loaded before the others.",
    "Take one of the steps out of the circle.",
)
LEADS_TO_CIRCLE = _refusal(
    "TMR623",
    "ensemble-leads-to-circle",
    "An ensemble asks ensembles that ask each other in a circle, without being in it itself.",
    "The server follows the circle until its stack is full, and ends with all its models.",
    "Break the circle before any server sees this repository.",
)
NO_VERSION = _refusal(
    "TMR624",
    "step-without-version",
    "A step names no model_version.",
    "The server then takes it for version 0, and wants exactly that one.",
    "Write model_version: -1 for the newest version that is served, or the number of one.",
)
WRONG_VERSION = _refusal(
    "TMR625",
    "step-version-not-served",
    "A step asks a version of a model that is not there, or that the model's version policy does not serve.",
    "The server wants every version that a step names to be loaded.",
    "Write model_version: -1 or a version that is served, or have the model's version_policy serve it.",
)
BATCH = Rule(
    "TMR635",
    "step-batch-too-small",
    Level.ERROR,
    "A step's model takes smaller batches than the ensemble.",
    "A batch that the ensemble accepts would be refused on the way.",
    "Lower the ensemble's max_batch_size to the smallest of its models, or raise the model's.",
    mapping.SOURCE,
)
RETIRING = Rule(
    "TMR651",
    "step-version-will-go",
    Level.WARNING,
    "A step asks one version by its number, of a model whose policy serves only the latest ones.",
    "When newer versions come, the server retires that one, and refuses the ensemble when it is loaded next.",
    "Let the model's version_policy name the version (specific), or write model_version: -1.",
    MANAGER,
)
DECOUPLED = Rule(
    "TMR652",
    "ensemble-becomes-decoupled",
    Level.WARNING,
    "A step's model is decoupled, so that the ensemble is, and its config does not say so.",
    "Such an ensemble is answered only over gRPC streams and generate_stream, which who reads its config cannot see.",
    "Write model_transaction_policy { decoupled: true } into the ensemble's config, too.",
    mapping.SOURCE,
)
RULES: tuple[Rule, ...] = (
    *(MISSING, REFUSED, CIRCLE, LEADS_TO_CIRCLE, NO_VERSION, WRONG_VERSION, BATCH, RETIRING, DECOUPLED),
    *mapping.RULES,
)

STEP = ("ensemble_scheduling", "step")


def check(model: Model, context: Context) -> Iterator[Finding]:
    if not model.filled.HasField("ensemble_scheduling"):
        return
    yield from _circles(model, context)
    told: set[str] = set()
    for index, step in enumerate(model.filled.ensemble_scheduling.step):
        if step.model_name and step.model_name not in told:
            yield from _unusable(model, context, index, step.model_name)
            told.add(step.model_name)
        if (asked := _usable(step.model_name, model, context)) is not None:
            yield from _version(model, asked, index, step)
            yield from _batch(model, asked, index, context.strict)
    yield from mapping.check(model, _all_usable(model, context), context.strict)
    yield from _transactions(model, context)


def fill(model: Model, context: Context) -> None:
    """What the server works out of an ensemble's steps, which have been filled before: whether it is decoupled."""
    if not model.filled.HasField("ensemble_scheduling"):
        return
    is_decoupled = mapping.is_decoupled(model, _all_usable(model, context))
    policy = model.filled.model_transaction_policy
    # Its own word counts before the server knows the steps, and then no more; a cache is refused for both.
    if is_decoupled != policy.decoupled and not (policy.decoupled and model.filled.response_cache.enable):
        policy.decoupled = is_decoupled


def _circles(model: Model, context: Context) -> Iterator[Finding]:
    way = context.circles.get(model.name)
    if way is None:
        return
    around = " -> ".join((*way[:20], *(["..."] if len(way) > 20 else []), way[0]))
    if model.name in way:
        said = "circular dependency between ensembles: "
        yield model.finding(CIRCLE, f"the ensemble asks itself: {around}", *STEP, server=said)
    elif all(name in context.models and name not in context.unread for name in order.steps(model)):
        message = f"the ensemble leads to {way[0]!r}, which asks itself: {around}; the server ends of it"
        yield model.finding(LEADS_TO_CIRCLE, message, *STEP, server="the server ended")


def _unusable(model: Model, context: Context, index: int, name: str) -> Iterator[Finding]:
    if name in context.circles:
        return
    if name in context.refused:
        message = f"step {index} asks the model {name!r}, which the server refuses"
        yield model.finding(REFUSED, message, *STEP, index, "model_name", server=_refused(model, context, name))
    elif name not in context.models and not _is_elsewhere(model, name):
        message = f"step {index} asks the model {name!r}, which is in no repository{_meant(name, model, context)}"
        said = f"ensemble {model.name} contains models that are not available or ambiguous: "
        yield model.finding(MISSING, message, *STEP, index, "model_name", server=said)


def _refused(model: Model, context: Context, name: str) -> str:
    """The server has other words for what it could not even read."""
    if name in context.unread:
        return f"ensemble {model.name} contains models that are not available or ambiguous: "
    return f"ensemble '{model.name}' depends on '{name}' which "


def _meant(name: str, model: Model, context: Context) -> str:
    near = difflib.get_close_matches(name, context.models.keys() - {model.name}, 1, 0.7)
    return f"; did you mean {near[0]!r}?" if near else ""


def _is_elsewhere(model: Model, name: str) -> bool:
    """Whether there is such a folder, though it is no model of the repositories (another/model)."""
    try:
        return (model.folder.parent / name).is_dir()
    except (OSError, ValueError):
        return False


def _usable(name: str, model: Model, context: Context) -> Model | None:
    """The model of a step whose config tells what the server would load."""
    found = context.models.get(name)
    if found is None or name in context.refused or name == model.name or not found.config.is_readable:
        return None
    return found


def _all_usable(model: Model, context: Context) -> dict[str, Model]:
    found = {name: _usable(name, model, context) for name in order.steps(model)}
    return {name: asked for name, asked in found.items() if asked is not None}


def _version(model: Model, asked: Model, index: int, step: Any) -> Iterator[Finding]:
    version, served = step.model_version, asked.served
    place = (*STEP, index, "model_version")
    said = f"'{asked.name}' whose required version {version} is not loaded."
    if version == -1:
        return
    if version in served:
        yield from _retiring(model, asked, index, version)
    elif version == 0 and place not in model.config.spans:
        message = f"step {index} names no model_version of {asked.name!r}"
        edits = _said_newest(model, index)
        yield model.finding(NO_VERSION, message, *STEP, index, server=said, edits=edits, is_safe=bool(edits))
    else:
        yield model.finding(WRONG_VERSION, _not_served(asked, index, version, served), *place, server=said)


def _not_served(asked: Model, index: int, version: int, served: tuple[int, ...]) -> str:
    there = "its version policy does not serve it" if version in asked.versions else "there is no such version"
    serves = ", ".join(map(str, served[:20])) or "none"
    return f"step {index} asks version {version} of {asked.name!r}, and {there} (served: {serves})"


def _said_newest(model: Model, index: int) -> tuple[Edit, ...]:
    """Behind the name of the model, on a line of its own if the name has one."""
    span = model.config.spans.get((*STEP, index, "model_name"))
    if span is None:
        return ()
    line = model.config.text.rfind("\n", 0, span.start) + 1
    indent = model.config.text[line : span.start]
    separator = "\n" + indent if not indent.strip() else " "
    return (Edit(span.end, span.end, f"{separator}model_version: -1"),)


def _retiring(model: Model, asked: Model, index: int, version: int) -> Iterator[Finding]:
    next_one = (*asked.versions, max(asked.versions) + 1)
    if version not in chosen(asked.filled.version_policy, next_one):
        message = f"step {index} asks version {version} of {asked.name!r}, whose policy serves only the latest versions"
        yield model.finding(RETIRING, message, *STEP, index, "model_version")


def _batch(model: Model, asked: Model, index: int, is_strict: bool) -> Iterator[Finding]:
    size, ours = asked.filled.max_batch_size, model.filled.max_batch_size
    if size and size < ours and (is_strict or not mapping.may_grow(asked)):
        said = f"ensemble {model.name} allows maximum batch size {ours}, but it contains model {asked.name} which only"
        message = f"the ensemble takes batches of {ours}, and {asked.name!r} of step {index} only of {size}"
        yield model.finding(BATCH, message, "max_batch_size", server=said)


def _transactions(model: Model, context: Context) -> Iterator[Finding]:
    if model.filled.model_transaction_policy.decoupled and not model.config.message.model_transaction_policy.decoupled:
        names = [name for name, one in _all_usable(model, context).items() if _is_decoupled(one)]
        message = f"the ensemble is decoupled, because of {', '.join(map(repr, names[:5]))}, and does not say so"
        yield model.finding(DECOUPLED, message, *STEP)


def _is_decoupled(model: Model) -> bool:
    return bool(model.filled.model_transaction_policy.decoupled)
