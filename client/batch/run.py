"""The story of a batch: images or texts in, rows into the journal, the journal into a table."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client import files, formats, signals, tasks
from client.batch.journal import Journal
from client.batch.rows import Row, row_of
from client.batch.sources import Source
from client.batch.tables import OF_OBJECTS, WRITERS
from client.errors import ClientError, InvalidInput, ServerError, UnreadableFile, UnwritableFile
from client.flows import Make
from client.tasks import TASKS, Task
from client.tasks.exchange import Columns
from client.types import ModelInfo, Outcome, Text

if TYPE_CHECKING:
    from client.client import Client

# What can be wrong with one item. All else concerns those to come as well, and ends the run.
OF_THE_ITEM = (InvalidInput, ServerError)


@dataclass(frozen=True)
class Table:
    """Where the results go."""

    path: Path
    form: str
    """A key of WRITERS, or of OF_OBJECTS."""
    overwrite: bool = False

    @property
    def partial(self) -> Path:
        return self.path.with_name(self.path.name + ".partial")


Beside = Callable[[Outcome[Any]], Outcome[Any]]


@dataclass(frozen=True)
class Question:
    """What is asked about which files or texts."""

    source: Source
    model: str | None
    make: Make
    """The task's request for some of them."""
    concurrency: int
    batch_size: int
    beside: Beside = lambda outcome: outcome
    """What else is done with each outcome, such as a drawing of it."""

    @property
    def task(self) -> Task:
        return TASKS[tasks.named(self.make([]))]

    def chosen(self, client: Client) -> ModelInfo:
        """The model to ask. Raises ModelNotFound, and InvalidOption for what it is not to be asked."""
        info = client.chosen(tasks.named(self.make([])), self.model)
        self.task.check(info, self.make([]))
        return info

    def asked(self, client: Client, info: ModelInfo, items: Iterable[Any]) -> Generator[Outcome[Any], None, None]:
        """Each item's outcome, until the server cannot be asked, or the end is asked for, which is raised."""
        wanted = signals.of_process().until(items)
        results = client.ask_each(wanted, self.make, info.name, self.concurrency, self.batch_size)
        return outcomes(results, self.beside)


@dataclass
class Counts:
    """Images or texts so far, those of the runs before included."""

    done: int = 0
    failed: int = 0


Progress = Callable[[Counts], None]


def ask_into(table: Table, client: Client, question: Question, progress: Progress = lambda _: None) -> Counts:
    """Write the table: one row an image or text, in the order of the source.

    Goes on where a run before it was cut off. Raises ClientError when the server cannot be asked, with all
    rows so far kept; what is refused, or cannot be read, is a row with the reason.
    """
    _refuse_existing(table)
    info = question.chosen(client)
    columns = question.task.columns(info, question.make([]))
    with Journal(table.partial, info.name, columns) as journal:
        found: Iterator[Any] = question.source.items(info)
        items = journal.remaining_texts(found) if columns.of_texts else journal.remaining(found)
        counts = Counts(journal.done)
        for result in question.asked(client, info, items):
            journal.add(row_of(result))
            counts.done += 1
            counts.failed += result.error is not None
            progress(counts)
        counts.failed = _publish(table, journal, columns)
    return counts


def outcomes(
    results: Generator[Outcome[Any], None, None], beside: Beside = lambda one: one
) -> Generator[Outcome[Any], None, None]:
    for result in results:
        if result.error and not isinstance(result.error, OF_THE_ITEM):
            results.close()  # cancels the rest
            raise result.error
        yield replace(result, error=_named(result)) if result.error else beside(result)


def _named(result: Outcome[Any]) -> ClientError | None:
    """The error, with the name of a format that the server has no decoder for."""
    if isinstance(result.image, Text):
        return result.error
    if type(result.error) is not InvalidInput or files.is_own(result.image):  # which is read, and maybe gone with it
        return result.error
    with contextlib.suppress(UnreadableFile, OSError), files.opened(result.image) as descriptor:
        return InvalidInput(formats.named(str(result.error), os.pread(descriptor, formats.HEAD_BYTES, 0)))
    return result.error


def _refuse_existing(table: Table) -> None:
    if os.path.lexists(table.path) and not table.overwrite:
        raise UnwritableFile(f"{table.path} exists already; name another file, or give --overwrite to replace it")


def _publish(table: Table, journal: Journal, columns: Columns) -> int:
    """The table by one rename, when it is on the disk; how many of its rows are errors."""
    failed = 0

    def rows() -> Iterable[Row]:
        nonlocal failed
        for row in journal.rows():
            failed += bool(row.error)
            yield row

    staged = table.path.with_name(table.path.name + ".staged")
    try:
        (WRITERS | OF_OBJECTS)[table.form](staged, rows(), columns)
        with staged.open("rb") as file:
            os.fsync(file.fileno())
        staged.replace(table.path)
    except OSError as error:
        with contextlib.suppress(OSError):
            staged.unlink()
        raise UnwritableFile(f"{table.path}: {error.strerror or error}; run again when that is mended") from None
    journal.path.unlink()
    return failed
