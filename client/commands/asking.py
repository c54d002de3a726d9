"""What commands share that ask about many files: into a table, or to the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from client import signals
from client.commands.options import Connection
from client.commands.output import print_error, print_json
from client.errors import ClientError, InvalidInput

Sources = Annotated[
    list[str],
    typer.Argument(
        help="Image files, folders (with their subfolders), quoted patterns such as 'photos/**/*.jpg', or - for a "
        "list on the standard input.",
        metavar="IMAGE|DIR|GLOB|-...",
        show_default=False,
    ),
]
BatchSize = Annotated[int, typer.Option(help="Images in a request, as far as the model takes as many.", min=1)]
Null = Annotated[bool, typer.Option("--null", "-0", help="The list's paths end in NUL, as those of `find -print0`.")]
Overwrite = Annotated[bool, typer.Option(help="Replace the file, if there is one.")]


def answer(
    connection: Connection,
    question: Any,
    paths: Mapping[str, Path | None],
    overwrite: bool,
    show: Callable[[Any], None],
    what: str,
) -> None:
    """Into the one table of `paths`, by format, or with `show` each. Raises typer.Exit where an image failed."""
    from client.batch.run import Table

    tables = [Table(path, form, overwrite) for form, path in paths.items() if path is not None]
    if len(tables) > 1:
        *others, last = (f"--{form}" for form in paths)
        raise typer.BadParameter(f"give one of {', '.join(others)} and {last}")
    code = _to_file(connection, question, tables[0], what) if tables else _to_terminal(connection, question, show)
    if code:
        raise typer.Exit(code)


def shown(as_json: bool, record: Callable[[Any], dict[str, Any]], show: Callable[[Any], None]) -> Callable[[Any], None]:
    """How an outcome is printed; `record` is of an answer, `show` of an outcome without an error."""

    def show_one(result: Any) -> None:
        if as_json:
            print_json({"image": result.image} | (_error(result.error) if result.error else record(result.answer)))
        elif result.error:
            print_error(_error_line(result))
        else:
            show(result)

    return show_one


def _to_file(connection: Connection, question: Any, table: Any, what: str) -> int:
    from client.batch.progress import bar
    from client.batch.run import ask_into
    from client.batch.sources import count

    with connection.client() as client, bar(lambda: count(question.sources)) as progress:
        counts = ask_into(table, client, question, progress)
    if counts.failed:
        print_error(f"{table.path}: {counts.failed} of {counts.done} images have an error in place of {what}")
        return InvalidInput.exit_code
    if sys.stderr.isatty():
        print_error(f"{table.path}: {counts.done} images")
    return 0


def _to_terminal(connection: Connection, question: Any, show: Callable[[Any], None]) -> int:
    from client.batch.sources import find

    failed: ClientError | None = None
    with connection.client() as client:
        images = signals.of_process().until(find(question.sources, question.null))
        for result in question.asked(client, images):
            failed = failed or result.error
            show(result)
    return failed.exit_code if failed else 0


def _error(error: ClientError) -> dict[str, Any]:
    return {"error": {"type": type(error).__name__, "message": str(error)}}


def _error_line(result: Any) -> str:
    """The image and what became of it; errors about a local file name it themselves."""
    message = str(result.error)
    return message if message.startswith(f"{result.image}:") else f"{result.image}: {message}"
