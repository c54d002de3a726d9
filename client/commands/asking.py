"""What commands share that ask about many files or texts: into a table, or to the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from client.commands.options import Connection
from client.commands.output import print_error, print_json
from client.errors import ClientError, InvalidInput
from client.shown import printable

EXCERPT = 60
"""Characters of a text that the terminal is shown."""

Sources = Annotated[
    list[str],
    typer.Argument(
        help="Image files, folders (with their subfolders), quoted patterns such as 'photos/**/*.jpg', or - for a "
        "list on the standard input.",
        metavar="IMAGE|DIR|GLOB|-...",
        show_default=False,
    ),
]
SourcesOfBoth = Annotated[
    list[str],
    typer.Argument(
        help="Image files, folders (with their subfolders), quoted patterns such as 'photos/**/*.jpg', or - for a "
        "list on the standard input. With --text: files with a text a line, patterns, or - for texts.",
        metavar="IMAGE|DIR|GLOB|FILE|-...",
        show_default=False,
    ),
]
AsText = Annotated[bool, typer.Option("--text", help="Ask about the texts in the files, one a line, in UTF-8.")]
BatchSize = Annotated[int, typer.Option(help="Images or texts in a request, as far as the model takes as many.", min=1)]
Null = Annotated[bool, typer.Option("--null", "-0", help="The list's paths end in NUL, as those of `find -print0`.")]
NullOfBoth = Annotated[
    bool, typer.Option("--null", "-0", help="The list's paths, or with --text the texts, end in NUL, not in a newline.")
]
Overwrite = Annotated[bool, typer.Option(help="Replace the file, if there is one.")]


def answer(
    connection: Connection,
    question: Any,
    paths: Mapping[str, Path | None],
    overwrite: bool,
    show: Callable[[Any], None],
    what: str,
) -> None:
    """Into the one table of `paths`, by format, or with `show` each. Raises typer.Exit where one failed."""
    from client.batch.run import Table

    tables = [Table(path, form, overwrite) for form, path in paths.items() if path is not None]
    if len(tables) > 1:
        *others, last = (f"--{form}" for form in paths)
        raise typer.BadParameter(f"give one of {', '.join(others)} and {last}")
    code = _to_file(connection, question, tables[0], what) if tables else _to_terminal(connection, question, show)
    if code:
        raise typer.Exit(code)


def source_of(words: Sequence[str], as_text: bool, null: bool) -> Any:
    """Images, or the texts of files."""
    from client.batch.lines import Lines
    from client.batch.sources import Images

    return Lines(words, null) if as_text else Images(words, null)


def shown(as_json: bool, record: Callable[[Any], dict[str, Any]], show: Callable[[Any], None]) -> Callable[[Any], None]:
    """How an outcome is printed; `record` is of an answer, `show` of an outcome without an error."""

    def show_one(result: Any) -> None:
        if as_json:
            print_json(_named(result.image) | (_error(result.error) if result.error else record(result.answer)))
        elif result.error:
            print_error(_error_line(result))
        else:
            show(result)

    return show_one


def heading(item: Any) -> str:
    """Of what is printed about it: a path, or FILE:LINE and the beginning of the text."""
    from client.batch.rows import name_of, readable

    name = printable(name_of(item))
    if isinstance(item, str):
        return name
    text = readable(item) or ""
    return f"{name}  {printable(text[:EXCERPT])}{'…' if len(text) > EXCERPT else ''}".rstrip()


def _named(item: Any) -> dict[str, Any]:
    from client.batch.rows import readable

    if isinstance(item, str):
        return {"image": item}
    text = readable(item)
    return {"path": item.where} | ({} if text is None else {"text": text})


def _to_file(connection: Connection, question: Any, table: Any, what: str) -> int:
    from client.batch.progress import bar
    from client.batch.run import ask_into

    things = question.source.THINGS
    with connection.client() as client, bar(question.source.count, things) as progress:
        counts = ask_into(table, client, question, progress)
    if counts.failed:
        print_error(f"{table.path}: {counts.failed} of {counts.done} {things} have an error in place of {what}")
        return InvalidInput.exit_code
    if sys.stderr.isatty():
        print_error(f"{table.path}: {counts.done} {things}")
    return 0


def _to_terminal(connection: Connection, question: Any, show: Callable[[Any], None]) -> int:
    failed: ClientError | None = None
    with connection.client() as client:
        info = question.chosen(client)
        for result in question.asked(client, info, question.source.items(info)):
            failed = failed or result.error
            show(result)
    return failed.exit_code if failed else 0


def _error(error: ClientError) -> dict[str, Any]:
    return {"error": {"type": type(error).__name__, "message": str(error)}}


def _error_line(result: Any) -> str:
    """The image or text and what became of it; errors about a local file name it themselves."""
    from client.batch.rows import name_of

    message, name = str(result.error), name_of(result.image)
    return message if message.startswith(f"{name}:") else f"{name}: {message}"
