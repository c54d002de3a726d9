"""build-repo history"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.commands.options import Json, Repository
from builder.commands.output import print_json, print_table, say

if TYPE_CHECKING:
    from builder.repository.history import Release

MIB = 1024 * 1024


def history(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name that clients ask for.")],
    repository: Repository = Path("model_repository"),
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Compare every file with what was recorded when it was built.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Show a model's versions: when, from what, with which figures, and to which one can go back."""
    from builder.repository.history import history as read

    releases = read(repository, model, check)
    if as_json:
        print_json(
            {"model": model, "versions": [asdict(release) | {"whole": not release.problem} for release in releases]}
        )
        return
    columns = ("VERSION", "BUILT", "NETWORK", "WEIGHTS", "FORMAT", "PRECISION", "MAX ERROR", "AGREEMENT", "MB", "")
    print_table(columns, [_row(release) for release in releases], numbers=(0, 6, 7, 8))
    for release in releases:
        if release.problem:
            say(f"{model} {release.version} is not whole: {release.problem}")


def _row(release: Release) -> tuple[object, ...]:
    origin, figures = release.origin, release.figures
    error = figures.get("max_abs_error") or figures.get("max_error")
    agreement = figures.get("top1_accuracy") or figures.get("top1_agreement")
    state = "damaged" if release.problem else "" if release.was_published else "never served"
    state = "current" if release.is_current else state
    built = release.built_at and release.built_at.replace("T", " ").removesuffix("+00:00")
    told = (origin.get(key) for key in ("network", "weights", "format", "precision"))
    return (release.version, built, *told, error, agreement, f"{release.bytes / MIB:.1f}", state)
