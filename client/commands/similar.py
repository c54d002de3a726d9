"""repo-client similar"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client import signals
from client.commands.asking import Null
from client.commands.embed import Model
from client.commands.options import Concurrency, Connection, Json, connects
from client.commands.output import print_error, print_json
from client.errors import InvalidInput
from client.shown import printable

if TYPE_CHECKING:
    from client.client import Client
    from client.similar.vectors import Vectors

Among = Annotated[
    list[str],
    typer.Argument(
        help="What is searched: a Parquet table of `embed`, or image files, folders, patterns, or - for a list.",
        metavar="FILE.parquet|IMAGE|DIR|GLOB|-...",
        show_default=False,
    ),
]
BATCH = 8


@connects
def similar(
    among: Among,
    connection: Connection,
    to: Annotated[str | None, typer.Option(help="The image that others are to be like.", metavar="IMAGE")] = None,
    top: Annotated[int, typer.Option(help="How many, the most alike first.", min=1)] = 10,
    duplicates: Annotated[bool, typer.Option("--duplicates", help="Tell pairs that are nearly the same.")] = False,
    threshold: Annotated[float, typer.Option(help="Of pairs: the least cosine.", min=-1.0, max=1.0)] = 0.95,
    model: Model = None,
    concurrency: Concurrency = 8,
    null: Null = False,
    as_json: Json = False,
) -> None:
    """Find images that are like another, or like each other: by the cosine of their vectors, exactly.

    A table of vectors is asked again and again without asking the server of its images anew; `--duplicates` of a table
    asks no server at all.
    """
    from client.similar.vectors import is_table, read

    if (to is None) is not duplicates:
        raise typer.BadParameter("give one of --to IMAGE and --duplicates")
    if any(map(is_table, among)) and len(among) > 1:
        raise typer.BadParameter("give one table, or images")
    if is_table(among[0]) and duplicates:
        _tell_pairs(read(among[0]), threshold, as_json)
        return
    with connection.client() as client:
        searched = read(among[0]) if is_table(among[0]) else _asked(client, among, model, concurrency, null)
        if to is None:
            _tell_pairs(searched, threshold, as_json)
        else:
            _tell_nearest(client, searched, to, model, top, as_json)


def _asked(client: Client, among: Sequence[str], model: str | None, concurrency: int, null: bool) -> Vectors:
    """Images that cannot be read, or are refused, are told and left out."""
    from client.batch.run import Question
    from client.batch.sources import find
    from client.similar.vectors import gathered
    from client.tasks.embedding import Request

    question = Question(among, model, Request, concurrency, BATCH, null)

    def pairs() -> Iterator[tuple[str, Any]]:
        for result in question.asked(client, signals.of_process().until(find(among, null))):
            if result.error:
                print_error(f"{printable(result.image)}: left out: {result.error}")
            else:
                yield result.image, result.answer

    return gathered(pairs())


def _tell_nearest(client: Client, searched: Vectors, to: str, model: str | None, top: int, as_json: bool) -> None:
    from client.similar.search import nearest

    try:
        wanted = client.embed(to, model)
    except InvalidInput as error:
        raise InvalidInput(f"{to}: {error}") from None
    for one in nearest(searched, wanted, top):
        if as_json:
            print_json({"image": one.name, "cosine": one.cosine})
        else:
            print(f"{one.cosine:7.4f}  {printable(one.name)}")


def _tell_pairs(searched: Vectors, threshold: float, as_json: bool) -> None:
    from client.similar.search import duplicates

    if len(searched.names) < 2:
        raise InvalidInput("there is one image, and pairs want two")
    for pair in duplicates(searched, threshold):
        if as_json:
            print_json({"first": pair.first, "second": pair.second, "cosine": pair.cosine})
        else:
            print(f"{pair.cosine:7.4f}  {printable(pair.first)}  {printable(pair.second)}")
