"""What a run has found so far, kept beside the table to be, so that a run that is cut off goes on.

The table itself appears when it is complete, by one rename.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, zip_longest
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from client.batch.rows import Row, as_line, as_note, digest_of, from_record
from client.errors import UnwritableFile
from client.tasks.exchange import Columns
from client.types import Text


class Journal:
    """A header line, then a line of JSON a row, in the order of the input. One process holds it at a time."""

    def __init__(self, path: Path, model: str, columns: Columns) -> None:
        self.path, self._columns = path, columns
        self._file = _opened(path)
        try:
            self.done = self._resume({"model": model, **columns.settings})
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._file.close()

    def add(self, row: Row) -> None:
        try:
            self._file.write(as_line(as_note(row, self._columns)).encode())
            self._file.flush()
        except OSError as error:
            raise UnwritableFile(f"{self.path}: {error.strerror}; the next run goes on from here") from None

    def rows(self) -> Iterator[Row]:
        with self.path.open("rb") as file:
            next(file)
            yield from (from_record(json.loads(line), self._columns) for line in file)

    def remaining(self, paths: Iterable[str]) -> Iterator[str]:
        """Those of `paths` that have no row yet.

        The input is as it was, as a rule, so that its start and the rows go in step and nothing is held.
        Where they part, because files came or went, the rest of the rows is held as hashes.
        """
        rows = (row.path for _, row in zip(range(self.done), self.rows(), strict=False))
        paths = iter(paths)
        for path in paths:
            recorded = next(rows, None)
            if recorded is None:
                yield path
                break
            if recorded != path:
                done = {_hash(recorded), *map(_hash, rows)}
                yield from (p for p in (path, *paths) if _hash(p) not in done)
                return
        yield from paths

    def remaining_texts(self, texts: Iterable[Text]) -> Iterator[Text]:
        """Those of `texts` behind the ones that have a row. Raises UnwritableFile where one of these is another now.

        A file whose lines changed, came or went would be given the rows of others.
        """
        texts = iter(texts)
        for row, text in zip_longest(islice(self.rows(), self.done), islice(texts, self.done)):
            known, is_now = row.path if row else "", text.where if text else ""
            if not row or not text or known != is_now or row.digest != digest_of(text):
                raise UnwritableFile(
                    f"{self.path} was begun with other texts: {known or is_now} is not what it was then; go on with "
                    "the same ones, or remove it to begin anew"
                )
        yield from texts

    def _resume(self, settings: Mapping[str, Any]) -> int:
        """The rows that are there; begins the file if it is new, and drops a line that was cut off."""
        header = as_line(dict(settings)).encode()
        self._file.seek(0)
        first, size, lines = self._file.readline(), 0, -1
        if not first.endswith(b"\n"):
            self._file.truncate(0)
            self._file.write(header)
            self._file.flush()
            return 0
        if first != header:
            raise UnwritableFile(
                f"{self.path} was begun with {first.decode(errors='replace').strip()}, not {header.decode().strip()}; "
                "go on with the same options, or remove it"
            )
        self._file.seek(0)
        for line in self._file:
            if line.endswith(b"\n"):
                size, lines = size + len(line), lines + 1
        self._file.truncate(size)
        return lines


def _opened(path: Path) -> IO[bytes]:
    try:
        file = path.open("ab+")
    except OSError as error:
        raise UnwritableFile(f"{path}: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UnwritableFile(f"{path}: another run is writing it") from None
    return file


def _hash(path: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(path), digest_size=8).digest(), "little")
