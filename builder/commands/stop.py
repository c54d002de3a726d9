"""build-repo stop"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.commands.options import Json
from builder.commands.output import print_json


def stop(
    repository: Annotated[
        Path | None, typer.Option("--repository", "-r", help="The repository that is served.", metavar="DIR")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The container.", metavar="NAME")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that `serve --detach` left running.")] = False,
    as_json: Json = False,
) -> None:
    """Stop servers of `serve --launcher docker`: what is in flight is answered, then the container is removed."""
    from builder.errors import LaunchError
    from builder.launchers import docker

    if not (repository or name or everything):
        repository = Path("model_repository")
    stopped = docker.stop(repository, name)
    if not stopped and not everything:
        what = f"container {name}" if name else f"container serves {repository}"
        raise LaunchError(f"no {what}; docker ps --filter label={docker.REPOSITORY_LABEL} lists those that do")
    if as_json:
        print_json({"stopped": stopped})
    else:
        print("".join(f"{one}\n" for one in stopped), end="")
