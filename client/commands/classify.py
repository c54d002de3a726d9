"""repo-client classify"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from client import signals
from client.commands.options import Concurrency, Connection, Json, Model, Threshold, Top, connects
from client.commands.output import print_error, print_json
from client.errors import ClientError, InvalidInput
from client.shown import printable

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


@connects
def classify(
    images: Sources,
    connection: Connection,
    model: Model = None,
    top: Top = None,
    threshold: Threshold = None,
    concurrency: Concurrency = 8,
    batch_size: BatchSize = 8,
    csv: Annotated[Path | None, typer.Option(help="Write a table: one row an image.", metavar="FILE")] = None,
    jsonl: Annotated[Path | None, typer.Option(help="Write a line of JSON an image.", metavar="FILE")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write a Parquet table.", metavar="FILE")] = None,
    overwrite: Overwrite = False,
    null: Null = False,
    as_json: Json = False,
) -> None:
    """Classify images: to the terminal, or into a file, which is complete when it appears.

    A run into a file that is cut off goes on where it stopped when it is started again. Images that cannot be
    read are rows with the reason, and make the exit code 6.
    """
    from client.batch.run import Question, Table
    from client.tasks.classification import making

    question = Question(images, model, making(top, threshold), concurrency, batch_size, null)
    tables = [
        Table(path, form, overwrite)
        for form, path in {"csv": csv, "jsonl": jsonl, "parquet": parquet}.items()
        if path is not None
    ]
    if len(tables) > 1:
        raise typer.BadParameter("give one of --csv, --jsonl and --parquet")
    code = _to_file(connection, question, tables[0]) if tables else _to_terminal(connection, question, as_json)
    if code:
        raise typer.Exit(code)


def _to_file(connection: Connection, question: Any, table: Any) -> int:
    from client.batch.progress import bar
    from client.batch.run import ask_into
    from client.batch.sources import count

    with connection.client() as client, bar(lambda: count(question.sources)) as progress:
        counts = ask_into(table, client, question, progress)
    if counts.failed:
        print_error(f"{table.path}: {counts.failed} of {counts.done} images have an error in place of classes")
        return InvalidInput.exit_code
    if sys.stderr.isatty():
        print_error(f"{table.path}: {counts.done} images")
    return 0


def _to_terminal(connection: Connection, question: Any, as_json: bool) -> int:
    from client.batch.sources import find

    failed: ClientError | None = None
    with connection.client() as client:
        images = signals.of_process().until(find(question.sources, question.null))
        for result in question.asked(client, images):
            failed = failed or result.error
            if as_json:
                print_json(_record(result))
            elif result.error:
                print_error(_error_line(result))
            else:
                _print_predictions(result)
    return failed.exit_code if failed else 0


def _error_line(result: Any) -> str:
    """The image and what became of it; errors about a local file name it themselves."""
    message = str(result.error)
    return message if message.startswith(f"{result.image}:") else f"{result.image}: {message}"


def _print_predictions(result: Any) -> None:
    print(printable(result.image))
    for prediction in result.answer:
        print(f"  {prediction.probability:8.4%}  {printable(prediction.label)}")
    if not result.answer:
        print("  no class that is probable enough")


def _record(result: Any) -> dict[str, Any]:
    record: dict[str, Any] = {"image": result.image}
    if result.error:
        return record | {"error": {"type": type(result.error).__name__, "message": str(result.error)}}
    return record | {"predictions": [asdict(prediction) for prediction in result.answer]}
