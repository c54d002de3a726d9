"""A real server's word beside each model that was checked: the embedded one loads it as `serve` would."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from builder.check.findings import Finding
from builder.check.found import servers
from builder.check.load import Verdict, judged
from builder.check.model import Model
from builder.check.outcome import Loading, Outcome
from builder.check.rules.loading import REFUSED
from builder.check.run import CheckOptions, Report, check_repository
from builder.check.target import EMBEDDED
from builder.launchers import runtime


def loaded(paths: Sequence[Path], outcome: Outcome, progress: Callable[[str], None] = lambda _: None) -> Outcome:
    """The same with the server's verdicts; what it alone refuses is a finding. Raises LaunchError."""
    loadings: dict[str, Loading] = {}
    surprises: list[Finding] = []
    told = _as_embedded(paths, outcome)
    for model, verdict in _verdicts(paths, outcome.options, progress):
        loadings[model.name] = Loading(verdict.reason, not verdict.lacks)
        if verdict.reason and not verdict.lacks and not told.refuses(model.name):
            surprises.append(model.finding_at(REFUSED, model.folder, "the server refuses it", server=verdict.reason))
    report = replace(outcome.report, findings=(*outcome.report.findings, *surprises))
    return replace(outcome, report=report, loadings=loadings)


def _as_embedded(paths: Sequence[Path], outcome: Outcome) -> Report:
    """What is found for the server that is asked: what another one would load, it may refuse."""
    if outcome.options.target == EMBEDDED:
        return outcome.report
    return check_repository(paths, replace(outcome.options, target=EMBEDDED))


def _verdicts(
    paths: Sequence[Path], options: CheckOptions, progress: Callable[[str], None]
) -> Iterator[tuple[Model, Verdict]]:
    """Of copies: the server, and the models' code, write nothing beside the files that are looked at."""
    for server in servers(paths, EMBEDDED, options.strict):
        models: Mapping[str, Model] = {model.name: model for model in server.asked}
        repositories = list(dict.fromkeys(model.folder.parent for model in server.models.values()))
        with ExitStack() as copies:
            folders = [copies.enter_context(runtime.adapted(repository)) for repository in repositories]
            for verdict in judged(folders, list(models), strict=options.strict):
                progress(f"{verdict.model}: loading")
                yield models[verdict.model], verdict
