"""build-repo push"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.commands.moving import shown
from builder.commands.options import Json, OlderThan, Repository
from builder.commands.output import print_json, say

if TYPE_CHECKING:
    from builder.stores.push import Pushed, PushOptions

Uri = Annotated[
    str, typer.Argument(metavar="URI", help="s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH or file:///PATH.")
]
Models = Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Models to move. Default: all.")]
Every = Annotated[bool, typer.Option("--all-versions", help="Every version, not only those that are served.")]


def push(
    uri: Uri,
    models: Models = None,
    repository: Repository = Path("model_repository"),
    every: Every = False,
    keep: Annotated[
        int | None,
        typer.Option(min=1, help="Versions of each model that stay there, with the current one.", metavar="K"),
    ] = None,
    older_than: OlderThan = None,
    removed: Annotated[
        bool, typer.Option("--removed", help="Take away there the models that the repository no longer has.")
    ] = False,
    sign: Annotated[
        Path | None, typer.Option(help="Ed25519 private key in PEM to sign with.", metavar="KEY", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring a repository elsewhere to what this one serves; only what lacks there is sent."""
    from builder.stores import places
    from builder.stores.push import PushOptions
    from builder.stores.push import push as push_to
    from builder.stores.retained import Retention

    options = PushOptions(tuple(models or ()), every, Retention(keep, older_than), removed, sign)
    with places.opened(uri, writing=True) as far, shown() as watch:
        pushed = push_to(repository, far, options, watch)
    _print(pushed, uri, as_json, options)


def _print(pushed: Pushed, uri: str, as_json: bool, options: PushOptions) -> None:
    for note in pushed.notes:
        say(note)
    if as_json:
        print_json({"uri": uri, "signed": options.sign is not None} | asdict(pushed))
        return
    models = ", ".join(f"{name} {version}" for name, version in sorted(pushed.models.items()))
    print(f"{uri} has {models}")
    signed = f"; signed with {options.sign}" if options.sign else ""
    print(f"{pushed.files} files sent, {pushed.bytes / 1e6:.1f} MB; {pushed.deleted} deleted{signed}")
