"""repo-client classify"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from client.commands.asking import BatchSize, Null, Overwrite, Sources, answer, shown
from client.commands.options import Concurrency, Connection, Json, Model, Threshold, Top, connects
from client.shown import printable


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
    from client.batch.run import Question
    from client.tasks.classification import making

    question = Question(images, model, making(top, threshold), concurrency, batch_size, null)
    paths = {"csv": csv, "jsonl": jsonl, "parquet": parquet}
    answer(connection, question, paths, overwrite, shown(as_json, _record, _print), "classes")


def _print(result: Any) -> None:
    print(printable(result.image))
    for prediction in result.answer:
        print(f"  {prediction.probability:8.4%}  {printable(prediction.label)}")
    if not result.answer:
        print("  no class that is probable enough")


def _record(predictions: Any) -> dict[str, Any]:
    return {"predictions": [asdict(prediction) for prediction in predictions]}
