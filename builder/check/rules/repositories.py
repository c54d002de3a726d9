"""What is wrong with several repositories together; and what is wrong with this program."""

from __future__ import annotations

from collections.abc import Iterator

from builder.check.findings import Finding, Level, Rule
from builder.check.model import Context, Model

MANAGER = "core: src/model_repository_manager/model_repository_manager.cc"

TWICE = Rule(
    "TMR691",
    "model-in-several-repositories",
    Level.ERROR,
    "Several of the server's repositories have a model of this name.",
    "The server loads none of them, since it cannot tell which is meant.",
    "Rename all but one, keep them on different servers, or start the server with --model-namespacing=true.",
    MANAGER,
)
FAILED = Rule(
    "TMR699",
    "checker-failed",
    Level.WARNING,
    "A model could not be judged by all rules, since one of them failed.",
    "What that rule would have found is not told.",
    "Report it with the config: this is a fault of build-repo.",
)
RULES: tuple[Rule, ...] = (TWICE, FAILED)


def check(model: Model, context: Context) -> Iterator[Finding]:
    if folders := context.twice.get(model.name):
        where = " and ".join(str(folder) for folder in folders)
        message = f"the model {model.name!r} is in {len(folders)} repositories: {where}"
        yield model.finding_at(TWICE, model.folder, message, "not unique across all model repositories")
    for problem in model.config.problems:
        if problem.code == FAILED.code:
            yield _failed(model, problem.message)


def failed(model: Model, error: Exception) -> Finding:
    return _failed(model, f"{type(error).__name__}: {error}")


def _failed(model: Model, error: str) -> Finding:
    said = error[:300]
    return model.finding_at(FAILED, model.folder, f"a rule failed with {said!r}; this is a fault of build-repo")
