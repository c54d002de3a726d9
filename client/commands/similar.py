"""repo-client similar"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.commands.asking import Null, source_of
from client.commands.embed import Model
from client.commands.options import Concurrency, Connection, Json, connects
from client.commands.output import print_error, print_json
from client.errors import ClientError, InvalidInput
from client.shown import printable

if TYPE_CHECKING:
    from client.client import Client
    from client.similar.vectors import Vectors

Among = Annotated[
    list[str],
    typer.Argument(
        help="What is searched: a Parquet table of `embed`, or image files, folders, patterns, or - for a list; with "
        "--text, files with a text a line.",
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
    text: Annotated[str | None, typer.Option(help="The text that others are to be like.", metavar="TEXT")] = None,
    top: Annotated[int, typer.Option(help="How many, the most alike first.", min=1)] = 10,
    duplicates: Annotated[bool, typer.Option("--duplicates", help="Tell pairs that are nearly the same.")] = False,
    threshold: Annotated[float, typer.Option(help="Of pairs: the least cosine.", min=-1.0, max=1.0)] = 0.95,
    model: Model = None,
    concurrency: Concurrency = 8,
    null: Null = False,
    as_json: Json = False,
) -> None:
    """Find images or texts that are like another, or like each other: by the cosine of their vectors, exactly.

    A table of vectors is asked again and again without asking the server of its rows anew; `--duplicates` of a table
    asks no server at all. Images and texts that cannot be read are told and left out, and make the exit code theirs.
    """
    from client.similar.vectors import is_table, read

    if [to is not None, text is not None, duplicates].count(True) != 1:
        raise typer.BadParameter("give one of --to IMAGE, --text TEXT and --duplicates")
    if any(map(is_table, among)) and len(among) > 1:
        raise typer.BadParameter("give one table, or images")
    if is_table(among[0]) and duplicates:
        _tell_pairs(read(among[0]), threshold, as_json)
        return
    failed: list[ClientError] = []
    with connection.client() as client:
        if is_table(among[0]):
            searched = read(among[0])
        else:
            source = source_of(among, text is not None, null)
            searched = _asked(client, source, model, concurrency, text is not None, failed)
        if duplicates:
            _tell_pairs(searched, threshold, as_json)
        else:
            wanted = _vector(client, to, text, model)
            _tell_nearest(searched, wanted, top, as_json, among[0] if is_table(among[0]) else None)
    if failed:
        raise typer.Exit(failed[0].exit_code)


def _asked(
    client: Client, source: Any, model: str | None, concurrency: int, of_texts: bool, failed: list[ClientError]
) -> Vectors:
    """What cannot be read, or is refused, is told, and added to `failed`."""
    from client.batch.rows import name_of
    from client.batch.run import Question
    from client.similar.vectors import gathered
    from client.tasks import embedding
    from client.tasks.text import vectors

    question = Question(source, model, vectors.Request if of_texts else embedding.Request, concurrency, BATCH)
    info = question.chosen(client)

    def pairs() -> Iterator[tuple[str, Any]]:
        for result in question.asked(client, info, source.items(info)):
            if result.error:
                failed.append(result.error)
                print_error(f"{name_of(result.image)}: left out: {result.error}")
            else:
                yield name_of(result.image), result.answer

    return gathered(pairs())


def _vector(client: Client, to: str | None, text: str | None, model: str | None) -> Any:
    if text is not None:
        return client.embed([text], model)[0]
    assert to is not None  # or there were nothing to be like
    try:
        return client.embed(to, model)
    except InvalidInput as error:
        raise InvalidInput(f"{to}: {error}") from None


def _tell_nearest(searched: Vectors, wanted: Any, top: int, as_json: bool, table: str | None) -> None:
    """With the texts, where a table has them."""
    from client.similar.search import nearest
    from client.similar.vectors import texts_of

    found = nearest(searched, wanted, top)
    texts = texts_of(table, {one.name for one in found}) if table else {}
    for one in found:
        text = texts.get(one.name)
        if as_json:
            print_json({"image": one.name, "cosine": one.cosine} | ({} if text is None else {"text": text}))
        else:
            print(f"{one.cosine:7.4f}  {printable(one.name)}{'' if text is None else f'  {printable(text)}'}")


def _tell_pairs(searched: Vectors, threshold: float, as_json: bool) -> None:
    from client.similar.search import duplicates

    if len(searched.names) < 2:
        raise InvalidInput("there is one vector, and pairs want two")
    for pair in duplicates(searched, threshold):
        if as_json:
            print_json({"first": pair.first, "second": pair.second, "cosine": pair.cosine})
        else:
            print(f"{pair.cosine:7.4f}  {printable(pair.first)}  {printable(pair.second)}")
