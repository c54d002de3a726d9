"""What the commands of all targets do: read the repository, write the files, say what was written and what follows.

A target is a function of the repository, the folder to write to and options of its own, which gives a `Deployment`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.commands.options import Force, Json, Output, Repository
from builder.commands.output import print_json, say

if TYPE_CHECKING:
    from builder.deploy.files import Written
    from builder.triton.advisories import Judgement


@dataclass(frozen=True)
class Deployment:
    """What a target makes of a repository; nothing is written yet."""

    files: Mapping[str, str]
    """Texts, by relative file name."""
    judged: Judgement
    """What is open to attack in what they run."""
    following: str = ""
    """The command that a user runs next, if there is one."""


Judge = Annotated[
    bool,
    typer.Option(
        "--check/--no-check", help="First judge the repository, as build-repo check does, for the server of the files."
    ),
]
Target = Callable[..., Deployment]
"""Its first arguments are `repository` and `output`, paths; the others are typer's options."""


def command(name: str, target: Target) -> Callable[..., None]:
    """The command of a target: its own options, and those that all targets have."""
    own = [each for key, each in _parameters(target).items() if key not in ("repository", "output")]

    def function(*, repository: Path, output: Path, force: bool, judge: bool, as_json: bool, **options: Any) -> None:
        from builder.deploy import files

        deployment = target(repository, output, **options)
        if judge:
            _judge(repository, options.get("image"))
        outcome = files.write(dict(deployment.files), output, force, target=name)
        _report(deployment, outcome, output, as_json)

    shared = _shared(Path("deploy", name))
    parameters = [*shared[:2], *(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own), *shared[2:]]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {each.name: each.annotation for each in parameters}
    function.__doc__ = target.__doc__
    return function


def _judge(repository: Path, image: str | None) -> None:
    """Raises CheckError for what the server would refuse: that of the image, or without one the embedded one."""
    from builder.check import gate
    from builder.triton import advisories
    from builder.triton.releases import of_reference

    known = of_reference(image) if image else None
    triton = (known.triton if known else None) if image else advisories.EMBEDDED
    gate.require_loadable(repository, gate.targets_of(triton))


def _parameters(target: Target) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(target, eval_str=True).parameters


def _shared(output: Path) -> list[inspect.Parameter]:
    defaults: dict[str, tuple[Any, Any]] = {
        "repository": (Repository, Path("model_repository")),
        "output": (Output, output),
        "force": (Force, False),
        "judge": (Judge, True),
        "as_json": (Json, False),
    }
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(key, keyword, annotation=kind, default=default) for key, (kind, default) in defaults.items()
    ]


def _report(deployment: Deployment, outcome: Written, folder: Path, as_json: bool) -> None:
    """The files, one a line; to standard error, what is open to attack, what became of the files, and what follows."""
    if deployment.judged.line:
        say(deployment.judged.line)
    if as_json:
        print_json({"folder": str(folder)} | asdict(outcome) | {"advisories": deployment.judged.names})
        return
    for name in sorted((*outcome.written, *outcome.unchanged)):
        print(folder / name)
    counts = {"written": outcome.written, "unchanged": outcome.unchanged, "removed": outcome.removed}
    told = ", ".join(f"{len(names)} {what}" for what, names in counts.items() if names or what == "written")
    say(f"{told}; then: {deployment.following}" if deployment.following else told)
