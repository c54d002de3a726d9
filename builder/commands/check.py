"""build-repo check"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.commands.options import Json
from builder.commands.output import progress, say

if TYPE_CHECKING:
    from builder.check.outcome import Outcome
    from builder.check.run import CheckOptions

FOUND = 1
"""Exit code where anything was found."""
STANDARD_OUTPUT = Path("-")

Paths = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Model repositories, folders of models, and config.pbtxt files. Default: model_repository.",
        metavar="[PATH]...",
        show_default=False,
    ),
]
Repositories = Annotated[
    list[Path] | None, typer.Option("--repository", "-r", help="The same, as other commands take it.", metavar="DIR")
]
Strict = Annotated[bool, typer.Option("--strict", help="Judge for a server that fills nothing in by itself.")]
ForTarget = Annotated[
    str,
    typer.Option(
        "--target",
        help="Triton to judge for: a release such as 24.10, a server's version, newest or embedded.",
        metavar="RELEASE",
    ),
]
Sarif = Annotated[
    Path | None, typer.Option(help="Also write SARIF 2.1.0, for code hosts; - is standard output.", metavar="FILE")
]
Load = Annotated[bool, typer.Option("--load", help="Have the embedded server load each model, and say what it says.")]
Fix = Annotated[bool, typer.Option("--fix", help="Mend what can be mended in one way only.")]
Ignore = Annotated[
    list[str] | None, typer.Option(help="Code or name of what is not to be told; repeatable.", metavar="CODE")
]
ErrorsOnly = Annotated[bool, typer.Option("--errors-only", help="Only what the server refuses.")]
Explain = Annotated[str | None, typer.Option(help="Only say what a code means.", metavar="CODE|all")]


def check(
    paths: Paths = None,
    repository: Repositories = None,
    strict: Strict = False,
    target: ForTarget = "newest",
    errors_only: ErrorsOnly = False,
    ignore: Ignore = None,
    fix: Fix = False,
    load: Load = False,
    sarif: Sarif = None,
    as_json: Json = False,
    explain: Explain = None,
) -> None:
    """Say what Triton would refuse of any repository, and what it would take and not do as meant, without a server.

    Exit code: 0 nothing was found, 1 something was, 2 there is nothing that can be checked.
    """
    from builder.check import codes
    from builder.check import target as targets
    from builder.check.run import CheckOptions
    from builder.machine.cores import granted_cores

    if explain is not None:
        print(codes.explained(explain))
        return
    _require_sense(sarif, as_json)
    ignored = codes.chosen(ignore or ())
    options = CheckOptions(targets.named(target), strict, granted_cores())
    places = _folders([*(paths or ()), *(repository or ())])
    outcome = _narrowed(_outcome(places, options, fix, load), ignored, errors_only)
    _tell(outcome, sarif, as_json)
    if outcome.report.findings:
        raise typer.Exit(FOUND)


def _require_sense(sarif: Path | None, as_json: bool) -> None:
    from builder.errors import UnusableError

    if as_json and sarif == STANDARD_OUTPUT:
        raise UnusableError("--json and --sarif - both print to standard output; name a file for one of them")


def _folders(paths: list[Path]) -> list[Path]:
    """A config means the model that it is of."""
    from builder.repository.layout import CONFIG
    from builder.util.hints import DEFAULT_REPOSITORY

    return [path.parent if path.name == CONFIG and _is_config(path) else path for path in paths or [DEFAULT_REPOSITORY]]


def _is_config(path: Path) -> bool:
    """What is no file, such as a link that leads nowhere, is one too, and a finding of its model."""
    import os

    return os.path.lexists(path) and not path.is_dir()


def _outcome(paths: list[Path], options: CheckOptions, fix: bool, load: bool) -> Outcome:
    from builder.check.outcome import Outcome
    from builder.check.run import check_repository

    outcome = Outcome(check_repository(paths, options), options)
    if fix:
        from builder.check import mending

        outcome = mending.mended(paths, outcome, say)
    if load:
        from builder.check import loading

        with progress(len(outcome.report.models)) as step:
            outcome = loading.loaded(paths, outcome, step)
    return outcome


def _narrowed(outcome: Outcome, ignored: frozenset[str], errors_only: bool) -> Outcome:
    from dataclasses import replace

    from builder.check.outcome import without

    findings = without(outcome.report.findings, ignored, errors_only)
    return replace(outcome, report=replace(outcome.report, findings=findings))


def _tell(outcome: Outcome, sarif: Path | None, as_json: bool) -> None:
    from builder.check import as_json as for_programs
    from builder.check import report
    from builder.check.sources import Sources

    sources = Sources()
    if sarif is not None:
        _write_sarif(outcome, sources, sarif)
    if as_json:
        print(json.dumps(for_programs.record(outcome, sources)))
    elif sarif != STANDARD_OUTPUT:
        for line in report.lines(outcome, sources):
            print(line)
    if not outcome.report.findings and sys.stderr.isatty():
        say(outcome.summary())


def _write_sarif(outcome: Outcome, sources: object, file: Path) -> None:
    from builder import __version__
    from builder.check import sarif
    from builder.check.sources import Sources
    from builder.errors import UnusableError, full_or

    assert isinstance(sources, Sources)
    text = json.dumps(sarif.record(outcome, sources, __version__), indent=1) + "\n"
    if file == STANDARD_OUTPUT:
        print(text, end="")
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise full_or(UnusableError, error)(f"{file} cannot be written: {error.strerror}; name another file") from None
