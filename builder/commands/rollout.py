"""build-repo rollout"""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.commands import servers
from builder.commands.options import Json, Repository
from builder.commands.output import print_json, progress, say

if TYPE_CHECKING:
    from builder.lifecycle.rollout import Result


class Trial(StrEnum):
    server = "server"
    process = "process"


Models = Annotated[
    list[str] | None, typer.Argument(metavar="[MODEL...]", help="Default: all that are published.", show_default=False)
]
MaxSlowdown = Annotated[
    float | None,
    typer.Option(
        help="Refuse a version whose answers take more than this many times as long as the old one's.",
        min=0.01,
        metavar="TIMES",
        show_default=False,
    ),
]
Parallel = Annotated[int, typer.Option(help="Servers at a time.", min=1, metavar="N")]
TrialPlace = Annotated[
    Trial,
    typer.Option(help="Where a version is tried: beside what serves, or in a server of its own on this machine."),
]
Seconds = Annotated[float, typer.Option("--timeout", help="Seconds for each load.", min=1, metavar="S")]
KeepLoaded = Annotated[
    bool, typer.Option("--keep-loaded", help="Leave the old version loaded, so that going back takes no time.")
]


def rollout(
    models: Models = None,
    repository: Repository = Path("model_repository"),
    url: servers.Urls = None,
    max_slowdown: MaxSlowdown = None,
    parallel: Parallel = 1,
    trial: TrialPlace = Trial.server,
    timeout: Seconds = 300.0,
    keep_loaded: KeepLoaded = False,
    admin_key_file: servers.AdminKeyFile = None,
    ca: servers.Ca = None,
    cert: servers.Cert = None,
    key: servers.Key = None,
    as_json: Json = False,
) -> None:
    """Bring running servers to what is published: each version is tried before it takes traffic."""
    from builder.lifecycle.rollout import RolloutOptions, roll_out

    reached = servers.accesses(url, admin_key_file, ca, cert, key)
    if not reached:
        raise typer.BadParameter("which server? give its address: --url HOST:PORT, as often as there are servers")
    options = RolloutOptions(
        tuple(models or ()), max_slowdown, trial.value, timeout, keep_loaded, parallel, servers.PATIENCE_SECONDS, say
    )
    with progress(len(reached)) as report:
        results = roll_out(repository, reached, options, report)
    if as_json:
        print_json({"servers": [asdict(result) for result in results]})
    else:
        print("".join(f"{line}\n" for result in results for line in _lines(result)), end="")


def _lines(result: Result) -> list[str]:
    if not result.changes:
        return [f"{result.url}: up to date"]
    return [
        f"{result.url}: {change.model} {change.after} serves "
        f"({'new' if change.before is None else f'was {change.before}'}), {change.seconds:.1f} s"
        for change in result.changes
    ]
