"""repo-client moderate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from client import signals
from client.commands.options import Connection, Json, Model, connects
from client.commands.output import print_error, print_json
from client.errors import ForbiddenContent, InvalidInput, InvalidOption
from client.shown import printable

Folder = Annotated[
    Path, typer.Argument(help="Folder to watch, with its subfolders.", metavar="DIR", show_default=False)
]
Forbid = Annotated[
    list[str],
    typer.Option(
        help='Class numbers and labels, such as 954,955,"banana"; of a detector, with the least score: person:0.6. '
        "Repeatable.",
        metavar="CLASSES",
    ),
]
Quarantine = Annotated[Path, typer.Option(help="Where forbidden files go, with the audit log.", metavar="DIR")]
Threshold = Annotated[
    float,
    typer.Option(
        help="Of the forbidden classes' probabilities together; of any of them, where a model gives several labels "
        "at once; of one object, where a detector's class has no score of its own.",
        min=0,
        max=1,
    ),
]
FailOpen = Annotated[
    bool,
    typer.Option(
        "--fail-open/--fail-closed",
        help="Whether files that cannot be judged count as clean, or go to the quarantine. A server that is away "
        "is waited for in either case.",
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        help="Names of files and folders that are no uploads, such as .gitkeep or '*.bak'. Repeatable.",
        metavar="PATTERN",
        show_default=False,
    ),
]
Abandon = Annotated[float, typer.Option(help="As many seconds for one whose name looks hidden or unfinished.", min=0)]


@connects
def moderate(
    folder: Folder,
    forbid: Forbid,
    quarantine: Quarantine,
    connection: Connection,
    threshold: Threshold = 0.5,
    model: Model = None,
    release: Annotated[
        Path | None, typer.Option(help="Where clean files go. Default: they stay.", metavar="DIR")
    ] = None,
    fail_open: FailOpen = False,
    every_file: Annotated[bool, typer.Option("--every-file", help="Not only those that are named as images.")] = False,
    ignore: Ignore = None,
    settle: Annotated[float, typer.Option(help="Seconds a file must have been left alone.", min=0)] = 2.0,
    abandon: Abandon = 600.0,
    interval: Annotated[float, typer.Option(help="Seconds between looks.", min=0.01)] = 1.0,
    concurrency: Annotated[int, typer.Option(help="Requests in flight.", min=1, max=1024)] = 4,
    once: Annotated[bool, typer.Option("--once", help="Judge what is there, and end.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write and move nothing.")] = False,
    hook: Annotated[
        str | None, typer.Option(help="Program to run for every file that is not clean; gets the record as JSON.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Move forbidden images out of a folder of uploads, now and as they come.

    With --once, the exit code is 13 where something was forbidden, else 6 where something was not judged.
    """
    from client.moderation.hooks import split
    from client.moderation.rules import words
    from client.moderation.run import Moderator, Orders

    forbidden = tuple(words(forbid))
    if not forbidden:
        raise InvalidOption("--forbid names no class")
    orders = Orders(
        root=folder.absolute(),
        quarantine=quarantine.absolute(),
        forbidden=forbidden,
        threshold=threshold,
        model=model,
        release=release.absolute() if release else None,
        fail_open=fail_open,
        every_file=every_file,
        ignored=tuple(ignore or ()),
        settle=settle,
        abandon=abandon,
        interval=interval,
        once=once,
        dry_run=dry_run,
        hook=tuple(split(hook)) if hook else (),
        concurrency=concurrency,
    )
    with connection.client() as client:
        stop = signals.of_process()
        counts = Moderator(client, orders, print_json if as_json else _print, print_error, stop).run()
    if once and stop.number:
        raise typer.Exit(128 + stop.number)  # not all is judged
    if once and counts.forbidden:
        raise typer.Exit(ForbiddenContent.exit_code)
    if once and (counts.unjudged or counts.left):
        raise typer.Exit(InvalidInput.exit_code)


def _print(record: dict[str, Any]) -> None:
    if record["verdict"] == "clean":
        return
    why = record["reason"] or f"{record['label']} {record['score']:.1%}"
    print(printable(f"{record['action']} {record['path']}: {record['verdict']}, {why}"), flush=True)
