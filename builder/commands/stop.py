"""build-repo stop"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.commands.options import Json
from builder.commands.output import print_json
from builder.errors import LaunchError


def stop(
    repository: Annotated[
        Path | None, typer.Option("--repository", "-r", help="The repository that is served.", metavar="DIR")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The container.", metavar="NAME")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that `serve --detach` left running.")] = False,
    as_json: Json = False,
) -> None:
    """Stop what `serve --detach` left running: what is in flight is answered, then the container is removed."""
    if not (repository or name or everything):
        repository = Path("model_repository")
    stopped = _stopped(repository, name)
    if not stopped and not everything:
        raise LaunchError(_nothing(repository, name))
    if as_json:
        print_json({"stopped": stopped})
    else:
        print("".join(f"{one}\n" for one in stopped), end="")


def _stopped(repository: Path | None, name: str | None) -> list[str]:
    from builder.launchers import LAUNCHERS

    return sorted(one for launcher in LAUNCHERS.values() for one in launcher.stop(repository, name))


def _nothing(repository: Path | None, name: str | None) -> str:
    from builder.launchers import LAUNCHERS

    what = f"container {name}" if name else f"container serves {repository}"
    listing = " or ".join(launcher.LISTED_BY for launcher in LAUNCHERS.values() if launcher.LISTED_BY)
    return f"no {what}; {listing} lists those that do"
