"""A real server's word beside each model that was checked: the embedded one loads it as `serve` would."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from builder.check import order, reader
from builder.check.findings import Finding
from builder.check.found import servers
from builder.check.load import Verdict, judged
from builder.check.model import Model
from builder.check.outcome import Loading, Outcome
from builder.check.rules.loading import REFUSED, REFUSED_BY_OURS
from builder.check.run import CheckOptions, Report, check_repository
from builder.check.target import EMBEDDED
from builder.launchers import runtime

NOT_INSTALLED = "No module named"
"""What a backend of ours says without the package that it stands on; of a model's own code it means something."""


def loaded(paths: Sequence[Path], outcome: Outcome, progress: Callable[[str], None] = lambda _: None) -> Outcome:
    """The same with the server's verdicts; what it alone refuses is a finding. Raises LaunchError."""
    verdicts = list(_verdicts(paths, outcome.options, progress))
    loadings = {model.name: _loading(model, verdict) for model, verdict in verdicts}
    told = _as_embedded(paths, outcome)
    surprises = [
        _surprise(model, verdict)
        for model, verdict in verdicts
        if _is_surprise(loadings, model) and not told.refuses(model.name)
    ]
    report = replace(outcome.report, findings=(*outcome.report.findings, *surprises))
    return replace(outcome, report=report, loadings=loadings)


def _as_embedded(paths: Sequence[Path], outcome: Outcome) -> Report:
    """What is found for the server that is asked: what another one would load, it may refuse."""
    if outcome.options.target == EMBEDDED:
        return outcome.report
    return check_repository(paths, replace(outcome.options, target=EMBEDDED))


def _loading(model: Model, verdict: Verdict) -> Loading:
    is_lacking = bool(verdict.lacks) or (_is_ours(model) and NOT_INSTALLED in verdict.reason)
    return Loading(verdict.reason, is_asked=not is_lacking)


def _is_ours(model: Model) -> bool:
    """Whether its backend is one of this project's, in Python, under the native one's name."""
    return (runtime.RUNTIMES / str(model.filled.backend) / "model.py").is_file()


def _is_surprise(loadings: Mapping[str, Loading], model: Model) -> bool:
    """Of an ensemble not, where it is a step that does not load."""
    own = loadings[model.name]
    steps = [loadings[name] for name in order.steps(model) if name in loadings]
    return own.is_asked and bool(own.reason) and not any(step.reason for step in steps)


def _surprise(model: Model, verdict: Verdict) -> Finding:
    if _is_ours(model):
        message = f"the backend {model.filled.backend} of the embedded server refuses it"
        return model.finding_at(REFUSED_BY_OURS, model.folder, message, server=verdict.reason)
    return model.finding_at(REFUSED, model.folder, "the embedded server refuses it", server=verdict.reason)


def _verdicts(
    paths: Sequence[Path], options: CheckOptions, progress: Callable[[str], None]
) -> Iterator[tuple[Model, Verdict]]:
    """Of copies: the server, and the models' code, write nothing beside the files that are looked at."""
    read = partial(reader.model_of, target=EMBEDDED, strict=options.strict, gpus=options.gpus)
    for server in servers(paths, read):
        models: Mapping[str, Model] = {model.name: model for model in server.asked}
        repositories = list(dict.fromkeys(model.folder.parent for model in server.models.values()))
        with ExitStack() as copies:
            folders = [copies.enter_context(runtime.adapted(repository)) for repository in repositories]
            progress(f"{next(iter(models), '')}: loading")
            for number, verdict in enumerate(judged(folders, list(models), strict=options.strict), 1):
                progress("".join(f"{name}: loading" for name in list(models)[number : number + 1]))
                yield models[verdict.model], _named(verdict, dict(zip(folders, repositories, strict=True)))


def _named(verdict: Verdict, places: Mapping[Path, Path]) -> Verdict:
    """With the paths that the user knows, in place of the copies'."""
    reason = verdict.reason
    for copy, original in places.items():
        reason = reason.replace(str(copy), str(original))
    return replace(verdict, reason=reason)
