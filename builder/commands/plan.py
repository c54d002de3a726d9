"""build-repo plan"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.commands.options import Json, ManifestFile, Repository, Weights
from builder.commands.output import print_json, print_table, say

if TYPE_CHECKING:
    from builder.build.changes import Plan

SHOWN = 20
"""Names in one line."""


def plan(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Entries to look at. Default: all.")
    ] = None,
    manifest: ManifestFile = Path("models.yaml"),
    repository: Repository = Path("model_repository"),
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """Say what a build would do: which entries are up to date, and what changed of the others."""
    from builder.build.changes import described, plans
    from builder.build.entry import resolve
    from builder.manifest.models import load_manifest

    found = plans(resolve(load_manifest(manifest), models or (), weights), repository)
    if as_json:
        print_json([record(one) for one in found])
        return
    print_table(("MODEL", "VERSION", "PLAN"), [(one.name, one.version, str(one)) for one in found], numbers=(1,))
    for one in found:
        for line in list(described(one))[1:]:
            print(f"{one.name}: {line.strip()}")


def record(plan: Plan) -> dict[str, Any]:
    """For JSON."""
    return {
        "name": plan.name,
        "state": plan.state,
        "version": plan.version,
        "changes": plan.changes,
        "rolled_back": plan.taken_back,
    }


def say_up_to_date(found: list[Plan]) -> None:
    """Which entries are not built, and why, in one line each kind."""
    current = [one for one in found if not one.is_due and not one.taken_back]
    if current:
        names = ", ".join(f"{one.name} ({one.version})" for one in current[:SHOWN])
        more = f" and {len(current) - SHOWN} more" if len(current) > SHOWN else ""
        say(f"up to date: {names}{more}")
    for one in found:
        if one.taken_back:
            say(
                f"{one.name}: version {one.taken_back} was built of this and rolled back, so that {one.version} is "
                "published; --rebuild builds it again"
            )
