"""The whole story: what is checked, in which order, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from builder.check import order, rules
from builder.check.findings import Finding, are_refused
from builder.check.found import Server, servers
from builder.check.model import Context, Model
from builder.check.rules import early, reading, repositories, steps
from builder.check.target import Target


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
    for server in servers(paths, options.target, options.strict):
        names += [model.name for model in server.asked]
        findings += _judged(server, options)
    return Report(tuple(names), tuple(findings))


def _judged(server: Server, options: CheckOptions) -> list[Finding]:
    """Of the models that were asked for, in their order; each is judged behind the models that it needs."""
    everything = Context(
        *(options.target, options.strict, options.cores, server.models),
        circles=order.circles(server.models),
        twice=server.twice,
        gpus=options.gpus,
    )
    told: dict[str, list[Finding]] = {}
    refused: dict[str, bool] = {}
    for model in order.in_order(server.models):
        needed = [name for name in order.steps(model) if name in refused]
        unread = frozenset(name for name in needed if refused[name])
        context = replace(everything, refused=frozenset(needed), unread=unread)
        told[model.name] = _in_place(_looked_at(model, context))
        if are_refused(told[model.name]):
            refused[model.name] = early.are_early(told[model.name])
    return [finding for model in server.asked for finding in told[model.name]]


def _looked_at(model: Model, context: Context) -> Iterator[Finding]:
    """What no family can judge, because the config cannot be read, is told as it is."""
    if not model.config.is_readable:
        yield from reading.check(model, context)
        return
    steps.fill(model, context)
    for family in rules.FAMILIES.values():
        try:
            yield from family.check(model, context)
        except Exception as error:
            yield repositories.failed(model, error)


def _in_place(findings: Iterator[Finding]) -> list[Finding]:
    """Each once, by file and place; what is at one place stays in the order of the rules' families."""
    return sorted(dict.fromkeys(findings), key=lambda one: (str(one.path), one.span.start if one.span else -1))
