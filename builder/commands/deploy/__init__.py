"""build-repo deploy: files that run a repository elsewhere. One file a target."""

from __future__ import annotations

import typer

from builder.commands.deploy.kubernetes import kubernetes
from builder.commands.deploy.swarm import swarm
from builder.commands.deploy.systemd import systemd

deploy = typer.Typer(
    name="deploy",
    help="Write the files that run a repository elsewhere. Nothing is applied.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
deploy.command()(kubernetes)
deploy.command()(swarm)
deploy.command()(systemd)
