"""What the machines of a build pass to each other: files in a shared folder, or behind a URI of fsspec."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from builder.errors import ClusterError
from builder.util import hashing
from builder.util.reasons import reason

OPENED = "run.json"
COMPLETE = "complete.json"
PARTIAL = ".partial"


@dataclass(frozen=True)
class Shipment:
    """A folder in the storage: its key, and the digest of the list of its files."""

    key: str
    sha256: str


@dataclass(frozen=True)
class Storage:
    """A place in the storage, by URI. It can be pickled; each machine connects for itself."""

    uri: str

    def put_file(self, path: Path, key: str) -> None:
        with self._mapped("written to"):
            files, target = self._at(key)
            files.makedirs(target.rpartition("/")[0], exist_ok=True)
            files.put_file(str(path), target)

    def put_text(self, text: str, key: str) -> None:
        """Whole or not at all: under another name first, where a name may hold a half."""
        with self._mapped("written to"):
            files, target = self._at(key)
            files.makedirs(target.rpartition("/")[0], exist_ok=True)
            files.pipe_file(target + PARTIAL, text.encode())
            files.mv(target + PARTIAL, target)

    def get_file(self, key: str, path: Path, sha256: str) -> None:
        """Raises ClusterError, also for another content than was put there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._mapped("read from"):
            files, source = self._at(key)
            files.get_file(source, str(path))
        if hashing.sha256(path) != sha256:
            raise ClusterError(f"{key} in {self.uri} is not what was put there; build again")

    def get_text(self, key: str) -> str:
        with self._mapped("read from"):
            files, source = self._at(key)
            return bytes(files.cat_file(source)).decode()

    def ship(self, folder: Path, key: str) -> Shipment:
        """A folder with all its files, which is there once the list of them is."""
        digests = hashing.digests(folder)
        for name in digests:
            self.put_file(folder / name, f"{key}/files/{name}")
        listed = json.dumps(digests, sort_keys=True)
        self.put_text(listed, f"{key}/{COMPLETE}")
        return Shipment(key, hashlib.sha256(listed.encode()).hexdigest())

    def fetch(self, shipment: Shipment, folder: Path) -> None:
        """A folder that was shipped, to the last bit. Raises ClusterError; then nothing is left of it."""
        try:
            listed = self.get_text(f"{shipment.key}/{COMPLETE}")
            if hashlib.sha256(listed.encode()).hexdigest() != shipment.sha256:
                raise ClusterError(f"{shipment.key} in {self.uri} is not what was put there; build again")
            for name, digest in json.loads(listed).items():
                self.get_file(f"{shipment.key}/files/{name}", folder / name, digest)
        except ClusterError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _at(self, key: str) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        files, root = url_to_fs(self.uri)
        return files, f"{root.rstrip('/')}/{key}"

    @contextmanager
    def _mapped(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each kind of storage raises its own
            raise ClusterError(
                f"the storage {self.uri} cannot be {what} ({type(error).__name__}: {reason(error)}); name one with "
                "--storage that every node reaches: a shared folder, or a URI whose fsspec package is installed"
            ) from None


@contextmanager
def run_in(storage: str) -> Iterator[Storage]:
    """A place of this build's own in the storage, which is gone afterwards. Raises ClusterError."""
    name = f"build-repo-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
    # A folder is the same folder for tasks, which run elsewhere.
    place = storage if "://" in storage else str(Path(storage).expanduser().absolute())
    run = Storage(f"{place.rstrip('/')}/{name}")
    run.put_text("{}\n", OPENED)
    try:
        yield run
    finally:
        with suppress(ClusterError), run._mapped("cleaned"):
            files, root = run._at("")
            files.rm(root.rstrip("/"), recursive=True)


def require_reachable(run: Storage, node: str) -> None:
    """Raise ClusterError on a node that sees another storage than the machine that builds, or none."""
    try:
        run.get_text(OPENED)
    except ClusterError as error:
        raise ClusterError(f"on node {node}, {error}") from None
