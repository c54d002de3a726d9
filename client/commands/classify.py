"""repo-client classify"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from client.commands.asking import (
    AsText,
    BatchSize,
    NullOfBoth,
    Overwrite,
    SourcesOfBoth,
    answer,
    heading,
    shown,
    source_of,
)
from client.commands.options import Concurrency, Connection, Json, Model, Threshold, Top, connects
from client.shown import printable


@connects
def classify(
    images: SourcesOfBoth,
    connection: Connection,
    model: Model = None,
    top: Top = None,
    threshold: Threshold = None,
    text: AsText = False,
    concurrency: Concurrency = 8,
    batch_size: BatchSize = 8,
    csv: Annotated[Path | None, typer.Option(help="Write a table: one row an image or text.", metavar="FILE")] = None,
    jsonl: Annotated[Path | None, typer.Option(help="Write a line of JSON an image or text.", metavar="FILE")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write a Parquet table.", metavar="FILE")] = None,
    overwrite: Overwrite = False,
    null: NullOfBoth = False,
    as_json: Json = False,
) -> None:
    """Classify images, or texts: to the terminal, or into a file, which is complete when it appears.

    A run into a file that is cut off goes on where it stopped when it is started again. Images or texts that
    cannot be read are rows with the reason, and make the exit code 6.
    """
    from client.batch.run import Question
    from client.tasks import classification
    from client.tasks.text import classes

    make = (classes if text else classification).making(top, threshold)
    question = Question(source_of(images, text, null), model, make, concurrency, batch_size)
    paths = {"csv": csv, "jsonl": jsonl, "parquet": parquet}
    answer(connection, question, paths, overwrite, shown(as_json, _record, _print), "classes")


def _print(result: Any) -> None:
    print(heading(result.image))
    for prediction in result.answer:
        print(f"  {prediction.probability:8.4%}  {printable(prediction.label)}")
    if not result.answer:
        print("  no class that is probable enough")


def _record(predictions: Any) -> dict[str, Any]:
    return {"predictions": [asdict(prediction) for prediction in predictions]}
