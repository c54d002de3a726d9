"""build-repo deploy kubernetes"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.commands.options import Force, Json, Output, Repository


def kubernetes(
    image: Annotated[str, typer.Option(help="What serves, with a tag or a digest.", metavar="IMAGE")],
    repository: Repository = Path("model_repository"),
    output: Output = Path("deploy/kubernetes"),
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Kustomize base and overlays, and KServe's objects."""
    from builder.commands.deploy.report import report
    from builder.deploy.files import write
    from builder.deploy.image import pinned
    from builder.served import read_repository

    read_repository(repository)
    pinned(image)
    report(write({}, output, force, target="kubernetes"), output, as_json)  # render() is to come
