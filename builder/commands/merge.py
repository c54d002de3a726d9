"""build-repo merge"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from builder.commands.options import Json, Repository
from builder.commands.output import print_json, print_table


def merge(
    sources: Annotated[list[Path], typer.Argument(metavar="REPO...", help="Repositories to take the models of.")],
    repository: Repository = Path("model_repository"),
    as_json: Json = False,
) -> None:
    """Gather repositories built on different GPUs into one."""
    from builder.repository.merge import merge_repositories

    merged = merge_repositories(sources, repository)
    if as_json:
        print_json({"repository": str(repository), "merged": [asdict(model) for model in merged]})
        return
    rows = [(m.name, m.version, ", ".join(m.capabilities) or None, ", ".join(m.sources)) for m in merged]
    print_table(("MODEL", "VERSION", "PLANS FOR", "FROM"), rows, numbers=(1,))
