"""repo-client embed"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from client.commands.asking import BatchSize, Null, Overwrite, Sources, answer, shown
from client.commands.options import Concurrency, Connection, Json, connects
from client.shown import printable

Model = Annotated[str | None, typer.Option(help="Model to ask. Default: the only embedding model there is.")]
SHOWN = 4


@connects
def embed(
    images: Sources,
    connection: Connection,
    model: Model = None,
    concurrency: Concurrency = 8,
    batch_size: BatchSize = 8,
    csv: Annotated[Path | None, typer.Option(help="Write a table: one row an image.", metavar="FILE")] = None,
    jsonl: Annotated[Path | None, typer.Option(help="Write a line of JSON an image.", metavar="FILE")] = None,
    parquet: Annotated[
        Path | None, typer.Option(help="Write a Parquet table, which `similar` reads.", metavar="FILE")
    ] = None,
    overwrite: Overwrite = False,
    null: Null = False,
    as_json: Json = False,
) -> None:
    """Make vectors of images: to the terminal, or into a file, which is complete when it appears.

    As with `classify`, a run into a file that is cut off goes on where it stopped, and images that cannot be read are
    rows with the reason.
    """
    from client.batch.run import Question
    from client.tasks.embedding import Request

    question = Question(images, model, Request, concurrency, batch_size, null)
    paths = {"csv": csv, "jsonl": jsonl, "parquet": parquet}
    answer(connection, question, paths, overwrite, shown(as_json, _record, _print), "a vector")


def _record(vector: Any) -> dict[str, Any]:
    return {"vector": vector.tolist()}


def _print(result: Any) -> None:
    numbers = " ".join(f"{number:.4f}" for number in result.answer[:SHOWN])
    print(f"{printable(result.image)}\n  {len(result.answer)} numbers: {numbers} ...")
