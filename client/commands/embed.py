"""repo-client embed"""

from __future__ import annotations

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
from client.commands.options import Concurrency, Connection, Json, connects

Model = Annotated[
    str | None, typer.Option(help="Model to ask. Default: the only one there is for images, or for texts.")
]
SHOWN = 4


@connects
def embed(
    images: SourcesOfBoth,
    connection: Connection,
    model: Model = None,
    text: AsText = False,
    concurrency: Concurrency = 8,
    batch_size: BatchSize = 8,
    csv: Annotated[Path | None, typer.Option(help="Write a table: one row an image or text.", metavar="FILE")] = None,
    jsonl: Annotated[Path | None, typer.Option(help="Write a line of JSON an image or text.", metavar="FILE")] = None,
    parquet: Annotated[
        Path | None, typer.Option(help="Write a Parquet table, which `similar` reads.", metavar="FILE")
    ] = None,
    overwrite: Overwrite = False,
    null: NullOfBoth = False,
    as_json: Json = False,
) -> None:
    """Make vectors of images, or of texts: to the terminal, or into a file, which is complete when it appears.

    As with `classify`, a run into a file that is cut off goes on where it stopped, and images or texts that cannot be
    read are rows with the reason.
    """
    from client.batch.run import Question
    from client.tasks import embedding
    from client.tasks.text import vectors

    make = vectors.Request if text else embedding.Request
    question = Question(source_of(images, text, null), model, make, concurrency, batch_size)
    paths = {"csv": csv, "jsonl": jsonl, "parquet": parquet}
    answer(connection, question, paths, overwrite, shown(as_json, _record, _print), "a vector")


def _record(vector: Any) -> dict[str, Any]:
    return {"vector": vector.tolist()}


def _print(result: Any) -> None:
    numbers = " ".join(f"{number:.4f}" for number in result.answer[:SHOWN])
    print(f"{heading(result.image)}\n  {len(result.answer)} numbers: {numbers} ...")
