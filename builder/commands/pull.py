"""build-repo pull"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from builder.commands.moving import shown
from builder.commands.options import Json, Repository
from builder.commands.output import print_json
from builder.commands.push import Every, Models, Uri

Verify = Annotated[
    Path | None,
    typer.Option(
        "--verify",
        help="Ed25519 public key in PEM: refuse what is not signed with it.",
        metavar="KEY",
        show_default=False,
    ),
]


def pull(
    uri: Uri,
    models: Models = None,
    repository: Repository = Path("model_repository"),
    every: Every = False,
    verify: Verify = None,
    as_json: Json = False,
) -> None:
    """Bring this repository to what was pushed elsewhere; only what lacks here is fetched."""
    from builder.stores import places
    from builder.stores.pull import PullOptions
    from builder.stores.pull import pull as pull_from

    with places.opened(uri, writing=False) as far, shown() as watch:
        pulled = pull_from(repository, far, PullOptions(tuple(models or ()), every, verify), watch)
    if as_json:
        print_json({"uri": uri, "repository": str(repository), "verified": verify is not None} | asdict(pulled))
        return
    print(f"{repository} has {', '.join(f'{name} {number}' for name, number in sorted(pulled.models.items()))}")
    print(f"{pulled.files} files fetched, {pulled.bytes / 1e6:.1f} MB")
