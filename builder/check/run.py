"""The whole story: what is checked, in which order, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from builder.check import order, reader, rules
from builder.check.findings import Finding, are_refused
from builder.check.found import Server, servers
from builder.check.model import Context, Model
from builder.check.rules import early, repositories, steps
from builder.check.target import Target
from builder.errors import UnusableError


@dataclass(frozen=True)
class CheckOptions:
    target: Target
    strict: bool = False
    """Judge with auto-complete off."""
    cores: int = 1
    gpus: int | None = None
    """Of the machine that will serve; None: nobody knows."""


@dataclass(frozen=True)
class Report:
    models: tuple[str, ...]
    """Names of all that was looked at."""
    findings: tuple[Finding, ...]
    """By model and place."""

    def refuses(self, model: str) -> bool:
        """Whether the server would not load it."""
        return any(finding.is_refusal and finding.model == model for finding in self.findings)


def check_repository(paths: Sequence[Path], options: CheckOptions) -> Report:
    """Of repositories and folders of models. Raises UnusableError where there is nothing that could be checked.

    The repositories are taken for those of one server. A folder of a model is judged in the repository that it is in,
    of which nothing else is looked at but what the model asks.
    """
    names: list[str] = []
    findings: list[Finding] = []
    read = partial(reader.model_of, target=options.target, strict=options.strict, gpus=options.gpus)
    for server in servers(paths, read):
        names += [model.name for model in server.asked]
        findings += _judged(server, options)
    if not names:
        raise UnusableError(f"there is no model in {', '.join(map(str, paths)) or 'nothing'}; name a model repository")
    return Report(tuple(names), tuple(findings))


def _judged(server: Server, options: CheckOptions) -> list[Finding]:
    """Of the models that were asked for, in their order; each is judged behind the models that it needs."""
    alone = Context(
        *(options.target, options.strict, options.cores, options.gpus), models=server.models, twice=server.twice
    )
    circles, unread = _circles(alone)
    told: dict[str, list[Finding]] = {}
    refused: dict[str, bool] = {}
    for model in order.in_order(server.models, unread):
        needed = [name for name in order.steps(model) if name in refused]
        early_ones = frozenset(name for name in needed if refused[name])
        context = replace(alone, refused=frozenset(needed), unread=early_ones, circles=circles)
        told[model.name] = _in_place(looked_at(model, context))
        if are_refused(told[model.name]):
            refused[model.name] = early.are_early(told[model.name])
    return [finding for model in server.asked for finding in told[model.name]]


def _circles(context: Context) -> tuple[Mapping[str, tuple[str, ...]], Sequence[str]]:
    """As `order.circles`, of what the server can read; and what it cannot, of all that seemed to be in one."""
    models = context.models
    found = order.circles(models)
    unread = [name for name in found if early.are_early(list(looked_at(models[name], context)))]
    if unread:
        found = order.circles({name: model for name, model in models.items() if name not in set(unread)})
    return found, unread


def looked_at(
    model: Model, context: Context, families: Mapping[str, rules.Family] = rules.FAMILIES
) -> Iterator[Finding]:
    """All that the families find; one that fails is a finding, and stops no other."""
    try:
        steps.fill(model, context)
    except Exception as error:
        yield repositories.failed(model, error)
    for name, family in families.items():
        if model.config.is_readable or name in rules.OF_ANY:
            try:
                yield from family.check(model, context)
            except Exception as error:
                yield repositories.failed(model, error)


def _in_place(findings: Iterator[Finding]) -> list[Finding]:
    """Each once, by file and place; what is at one place stays in the order of the rules' families."""
    return sorted(dict.fromkeys(findings), key=lambda one: (str(one.path), one.span.start if one.span else -1))
