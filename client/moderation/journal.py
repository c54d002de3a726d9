"""What was judged, and which moves are under way. Survives being killed at any moment."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from client.errors import UnwritableFile
from client.moderation.walking import Left
from client.moderation.watch import Found

SCHEMA = """
DROP TABLE IF EXISTS judged;  -- older ones, which knew files by a time that anybody can set
CREATE TABLE IF NOT EXISTS known (path BLOB PRIMARY KEY, identity TEXT);
CREATE TABLE IF NOT EXISTS moves (id TEXT PRIMARY KEY, source BLOB, target BLOB, record TEXT);
"""
LATER = "ALTER TABLE moves ADD COLUMN content TEXT NOT NULL DEFAULT '[]'"
"""Which older journals have not."""


@dataclass(frozen=True)
class Move:
    """A file on its way: from `source`, by way of a name of its own beside it, to `target`."""

    id: str
    source: Path
    target: Path
    record: str
    """The audit's line, as JSON."""
    content: tuple[int, ...] = ()
    """The file's inode, size and mtime; nothing in older journals."""

    @property
    def taken(self) -> Path:
        """Its name while it is on its way. If it is left under that for whatever reason, `walk` sees an upload."""
        return self.source.with_name(f".moderate-{self.id}")


class Journal:
    """One process holds it at a time."""

    def __init__(self, path: Path) -> None:
        self._lock = _locked(path.with_name(path.name + ".lock"))
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(SCHEMA)
            if "content" not in [column for _, column, *_ in self._database.execute("PRAGMA table_info(moves)")]:
                self._database.execute(LATER)
        except sqlite3.Error as error:
            os.close(self._lock)
            raise UnwritableFile(f"{path}: {error}") from None

    def close(self) -> None:
        self._database.close()
        os.close(self._lock)

    def knows(self, found: Found) -> bool:
        """Whether this very file was judged, and left where it is."""
        return self._noted(found.path) == repr(found.identity)

    def add(self, found: Found) -> None:
        self._note(found.path, repr(found.identity))

    def knows_left(self, left: Left) -> bool:
        """Whether it was recorded that this cannot be judged."""
        return self._noted(left.path) == left.reason

    def add_left(self, left: Left) -> None:
        self._note(left.path, left.reason)

    def _noted(self, path: Path) -> str | None:
        row = self._database.execute("SELECT identity FROM known WHERE path = ?", (os.fsencode(path),)).fetchone()
        return row[0] if row else None

    def _note(self, path: Path, identity: str) -> None:
        self._write("REPLACE INTO known VALUES (?, ?)", os.fsencode(path), identity)

    def begin(self, move: Move) -> None:
        fields = (os.fsencode(move.source), os.fsencode(move.target), move.record, json.dumps(move.content))
        self._write("REPLACE INTO moves (id, source, target, record, content) VALUES (?, ?, ?, ?, ?)", move.id, *fields)

    def end(self, move: Move) -> None:
        self._write("DELETE FROM moves WHERE id = ?", move.id)

    def unfinished(self) -> list[Move]:
        rows = self._database.execute("SELECT id, source, target, record, content FROM moves").fetchall()
        return [
            Move(name, _path(source), _path(target), record, tuple(json.loads(content)))
            for name, source, target, record, content in rows
        ]

    def forget_gone(self) -> None:
        """Files that are no longer there need no row."""
        for path in list(self._gone()):
            self._write("DELETE FROM known WHERE path = ?", path)

    def _gone(self) -> Iterator[bytes]:
        for (path,) in self._database.execute("SELECT path FROM known"):
            if not os.path.lexists(path):
                yield path

    def _write(self, statement: str, *values: object) -> None:
        try:
            self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise UnwritableFile(f"the journal cannot be written: {error}") from None


def _path(raw: bytes) -> Path:
    return Path(os.fsdecode(raw))


def _locked(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnwritableFile(f"{path}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise UnwritableFile(f"{path}: another process moderates with this quarantine") from None
    return descriptor
