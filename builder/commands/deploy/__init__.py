"""build-repo deploy: files that run a repository elsewhere. A target is one file here, and one line in TARGETS."""

from __future__ import annotations

import typer

from builder.commands.deploy.kubernetes import kubernetes
from builder.commands.deploy.swarm import swarm
from builder.commands.deploy.systemd import systemd
from builder.commands.deploy.target import Target, command

deploy = typer.Typer(
    name="deploy",
    help="Write the files that run a repository elsewhere. Nothing is applied.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
TARGETS: dict[str, Target] = {"kubernetes": kubernetes, "swarm": swarm, "systemd": systemd}


def add(name: str, target: Target) -> None:
    deploy.command(name)(command(name, target))


for name, target in TARGETS.items():
    add(name, target)
