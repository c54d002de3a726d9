"""build-repo rollback"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.commands.options import Json, Repository
from builder.commands.output import print_json, progress, say
from builder.commands.servers import PATIENCE_SECONDS, AdminKeyFile, Ca, Cert, Key, Urls, accesses
from builder.util import hints

if TYPE_CHECKING:
    from builder.lifecycle.rollout import Result
    from builder.repository.rollback import RolledBack
    from builder.triton.connection import Access


def rollback(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name that clients ask for.")],
    to: Annotated[
        int | None,
        typer.Option(help="Version to serve. Default: the one before that which is served.", min=1, metavar="N"),
    ] = None,
    repository: Repository = Path("model_repository"),
    urls: Urls = None,
    admin_key_file: AdminKeyFile = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Go back to a version that was published before, or forward again; servers of --url follow."""
    from builder.repository.rollback import roll_back

    servers = accesses(urls, admin_key_file, ca, cert, key)
    rolled = roll_back(repository, model, to)
    if not as_json:
        print(_told(rolled), flush=True)  # before servers are asked, which may fail
    results = _roll_out(repository, model, servers) if servers else []
    if as_json:
        print_json(asdict(rolled) | {"servers": [asdict(result) for result in results]})
        return
    for result in results:
        print(f"{result.url}: {_changes(result)}")
    if not servers and rolled.before != rolled.after:
        say(f"running servers follow with: {hints.command(repository, 'rollout', model)} --url HOST:PORT")


def _told(rolled: RolledBack) -> str:
    if rolled.before == rolled.after:
        return f"{rolled.model} {rolled.after} is what is published already"
    return f"{rolled.model} {rolled.after} is published (was {rolled.before or 'lost'})"


def _roll_out(repository: Path, model: str, servers: list[Access]) -> list[Result]:
    from builder.lifecycle.rollout import RolloutOptions, roll_out

    # What is left stays loaded: going forward again is as fast, and the next rollout unloads it.
    options = RolloutOptions(models=(model,), keep_loaded=True, patience=PATIENCE_SECONDS, warn=say)
    with progress(len(servers)) as report:
        return roll_out(repository, servers, options, report)


def _changes(result: Result) -> str:
    changes = [
        f"{one.model} {one.after} (was {one.before or 'not served'}), {one.seconds:.1f} s" for one in result.changes
    ]
    return "; ".join(changes) or "serves that already"
