"""What a node needs of an entry's files: packed by content, and laid out there as they lie here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from builder.build import adopted, code
from builder.build.entry import Entry
from builder.build.portable import names_callable, portable, relative
from builder.errors import ManifestError
from builder.executors.ray.storage import Storage
from builder.networks.card import card_path
from builder.util import hashing


@dataclass(frozen=True)
class PackedFile:
    place: str
    """As seen from the manifest's folder."""
    sha256: str

    @staticmethod
    def key_of(sha256: str) -> str:
        return f"objects/{sha256}"


@dataclass(frozen=True)
class Parcel:
    entry: Entry
    """Its paths are relative to the manifest's folder."""
    base: str
    """That folder, on the machine that packed it."""
    items: tuple[PackedFile, ...]


def pack(entry: Entry, storage: Storage, also: Sequence[str], known: set[str]) -> Parcel:
    """Put the entry's files into the storage, each content once: `known` are those there. Raises BuilderError."""
    base = entry.base
    digests = hashing.hashed(sorted(set(_files(entry, also))))
    for path, digest in digests.items():
        if digest not in known:
            storage.put_file(path, PackedFile.key_of(digest))
            known.add(digest)
    items = tuple(PackedFile(_place(path, base), digest) for path, digest in digests.items())
    return Parcel(replace(entry, spec=portable(entry)), str(base.resolve()), items)


def unpack(parcel: Parcel, storage: Storage, root: Path) -> Entry:
    """The entry for this machine, where all files lie below `root`, by the paths that they have on the other."""
    base = root / parcel.base.lstrip("/")
    base.mkdir(parents=True)
    for item in parcel.items:
        storage.get_file(PackedFile.key_of(item.sha256), Path(os.path.normpath(base / item.place)), item.sha256)
    entry = parcel.entry
    weights = entry.weights
    if weights.path:
        weights = replace(weights, path=base / str(entry.spec.weights))
    return replace(entry, weights=weights, manifest=replace(entry.manifest, path=base / entry.manifest.path.name))


def _place(path: Path, base: Path) -> str:
    """As seen from the manifest's folder, by the names that the manifest gives, links or not."""
    return relative(str(path.relative_to(base) if path.is_relative_to(base) else path), base)


def _files(entry: Entry, also: Sequence[str]) -> Iterator[Path]:
    """Those that are there; the build itself says what is missing."""
    base, spec = entry.base, entry.spec
    named: list[Path] = []
    if entry.weights.path:
        named += [entry.weights.path, card_path(entry.weights.path)]
    for value in spec.files().values():
        if names_callable(value, base):
            named += code.files_of(value, base)
    named += spec.data_files(base)
    if entry.artifact:
        named += adopted.files_of(entry.artifact)
    for text in also:
        named += _also(text, base)
    return (path for path in named if path.is_file())


def _also(text: str, base: Path) -> Iterator[Path]:
    """A file, or all files of a folder, that the user's code opens by itself."""
    path = base / Path(text).expanduser()
    if not path.exists():
        raise ManifestError(f"{path}, to be packed along, does not exist; paths of --pack are relative to the manifest")
    yield from (path, *path.rglob("*"))
