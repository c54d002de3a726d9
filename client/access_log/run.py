"""The story of a log: lines in, images asked about once each, a report out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from client.access_log.entries import Entry, parse
from client.access_log.prefixes import is_note
from client.access_log.report import Picture, Report
from client.access_log.selecting import Asked, Selection, image_of
from client.errors import InvalidInput, ServerError, UnreadableFile
from client.formats import HEAD_BYTES, named

if TYPE_CHECKING:
    from client.client import Client

CONCURRENCY = 8
# As many new images wait to be asked about together while a log is read.
GATHERED = 256


class Store(Protocol):
    def located(self, asked: Asked) -> Asked:
        """The same image by the one name that it is counted under."""

    def read(self, asked: Asked) -> bytes: ...


def scan(
    lines: Iterable[str | None],
    selection: Selection,
    store: Store,
    client: Client,
    model: str,
    report: Report,
    found: Callable[[Picture], None] = lambda _: None,
) -> None:
    """Fills `report`. None among the lines means that no more are there now, so that what waits is asked about.

    `found` is told of each image when it is classified. Raises ClientError when the server cannot be asked.
    """
    waiting: list[Picture] = []
    for line in lines:
        picture = _counted(line, selection, store, report) if line is not None else None
        if picture:
            waiting.append(picture)
        if waiting and (line is None or len(waiting) >= GATHERED):
            _classify(waiting, store, client, model, found)
            waiting = []
    _classify(waiting, store, client, model, found)


def _counted(line: str, selection: Selection, store: Store, report: Report) -> Picture | None:
    """The line's image, if it has one that was not seen before."""
    if not line.strip() or is_note(line.strip()):
        return None
    report.lines += 1
    entry = parse(line)
    if entry is None:
        report.malformed += 1
        return None
    asked = image_of(entry, selection)
    if asked is None:
        return None
    asked = store.located(asked)
    known = report.pictures.get(asked)
    picture = known or report.pictures.setdefault(asked, Picture(asked))
    _count(picture, entry)
    return None if known else picture


def _count(picture: Picture, entry: Entry) -> None:
    picture.requests += 1
    picture.clients[entry.client] += 1
    picture.first = picture.first or entry.time
    picture.last = entry.time


def _classify(
    pictures: list[Picture], store: Store, client: Client, model: str, found: Callable[[Picture], None]
) -> None:
    from client.client import map_bounded

    def one(picture: Picture) -> Picture:
        data = b""
        try:
            data = store.read(picture.asked)
            picture.predictions = client.classify(data, model)
        except InvalidInput as error:
            picture.error = named(str(error), data[:HEAD_BYTES])
        except ServerError as error:
            picture.error = str(error)
        return picture

    for picture in map_bounded(one, pictures, CONCURRENCY, client.cancel):
        found(picture)


def all_lines(
    paths: Iterable[str], read: Callable[[str], Iterator[str]], report: Report, told: Callable[[str], None]
) -> Iterator[str]:
    """Of each log as much as can be read; `told` and the report are told of the rest."""
    for path in paths:
        try:
            yield from read(path)
        except UnreadableFile as error:
            report.unread.append(str(error))
            told(str(error))
