"""repo-client segment"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from client.commands.asking import BatchSize, Null, Sources, answer, shown
from client.commands.options import Concurrency, Connection, Json, connects
from client.shown import printable

Model = Annotated[str | None, typer.Option(help="Model to ask. Default: the only segmenter there is.")]
Overlay = Annotated[
    Path | None,
    typer.Option(help="Tint images by class: into a PNG, or a folder with one for each.", metavar="FILE.png|DIR"),
]
Masks = Annotated[
    Path | None,
    typer.Option(help="Write PNGs whose palette's numbers are the classes.", metavar="FILE.png|DIR"),
]


@connects
def segment(
    images: Sources,
    connection: Connection,
    model: Model = None,
    overlay: Overlay = None,
    masks: Masks = None,
    concurrency: Concurrency = 8,
    batch_size: BatchSize = 8,
    null: Null = False,
    as_json: Json = False,
) -> None:
    """Tell the class of each pixel: pixels by class to the terminal, and pictures of them."""
    from client import drawn
    from client.batch.run import Question
    from client.batch.sources import Images
    from client.commands.pictures import Place, putting
    from client.tasks import segmentation

    tinted = Place(overlay, drawn.overlay) if overlay else None
    put = putting(tinted, Place(masks, lambda _, found: drawn.mask(found)) if masks else None)
    question = Question(Images(images, null), model, segmentation.Request, concurrency, batch_size, put)
    answer(connection, question, {}, False, shown(as_json, segmentation.record, _print), "classes")


def _print(result: Any) -> None:
    from client.tasks.segmentation import pixels

    print(printable(result.image))
    for one in pixels(result.answer):
        print(f"  {one['pixels'] / result.answer.mask.size:8.4%}  {printable(one['label'])}")
