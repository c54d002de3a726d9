"""repo-client detect"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from client.commands.asking import BatchSize, Null, Overwrite, Sources, answer, shown
from client.commands.options import Concurrency, Connection, Json, connects
from client.shown import printable

Model = Annotated[str | None, typer.Option(help="Model to ask. Default: the only detector there is.")]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="Give only objects with at least this score; those below the model's own are not given in any case.",
        min=0.0,
        max=1.0,
        show_default=False,
    ),
]
Draw = Annotated[
    Path | None,
    typer.Option(help="Draw the boxes: into a PNG, or a folder with one for each image.", metavar="FILE.png|DIR"),
]


@connects
def detect(
    images: Sources,
    connection: Connection,
    model: Model = None,
    threshold: Threshold = None,
    draw: Draw = None,
    concurrency: Concurrency = 8,
    batch_size: BatchSize = 8,
    csv: Annotated[Path | None, typer.Option(help="Write a table: one row an object.", metavar="FILE")] = None,
    jsonl: Annotated[Path | None, typer.Option(help="Write a line of JSON an image.", metavar="FILE")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write a Parquet table.", metavar="FILE")] = None,
    coco: Annotated[Path | None, typer.Option(help="Write COCO's JSON.", metavar="FILE")] = None,
    overwrite: Overwrite = False,
    null: Null = False,
    as_json: Json = False,
) -> None:
    """Find objects on images: to the terminal, drawn, or into a file, which is complete when it appears.

    Boxes are x1, y1, x2, y2 in pixels of the upright image. As with `classify`, a run into a file that is cut off
    goes on where it stopped, and images that cannot be read are rows with the reason.
    """
    from client import drawn
    from client.batch.run import Question
    from client.batch.sources import Images
    from client.commands.pictures import Place, putting
    from client.tasks import detection

    put = putting(Place(draw, drawn.boxes) if draw else None)
    question = Question(Images(images, null), model, detection.making(threshold), concurrency, batch_size, put)
    paths = {"csv": csv, "jsonl": jsonl, "parquet": parquet, "coco": coco}
    show = shown(as_json, lambda found: {"detections": list(map(detection.as_dict, found))}, _print)
    answer(connection, question, paths, overwrite, show, "objects")


def _print(result: Any) -> None:
    print(printable(result.image))
    for one in result.answer:
        box = " ".join(f"{side:8.1f}" for side in one.box)
        print(f"  {one.score:7.2%}  {box}  {printable(one.label)}")
    if not result.answer:
        print("  no object that is sure enough")
