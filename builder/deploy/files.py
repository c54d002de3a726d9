"""What the targets share: templates with safe quoting, and files written whole or not at all."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from builder.errors import DeployError
from builder.util import hashing
from builder.util.rendering import environment

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent.parent / "templates" / "deploy"
# YAML takes these for line breaks, or refuses them raw, where JSON does not mind.
ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
SCRIPT = "#!"


@dataclass(frozen=True)
class Written:
    """Relative file names, sorted."""

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    """Of an earlier run, and no longer needed."""


def render(template: str, **values: Any) -> str:
    """The text of `templates/deploy/<template>.j2`. Raises DeployError."""
    import jinja2

    try:
        return _environment().get_template(f"{template}.j2").render(**values)
    except jinja2.TemplateError as error:
        raise DeployError(f"template deploy/{template}.j2: {error}") from None


def quoted(value: Any) -> str:
    """JSON that YAML 1.1 and 1.2 read as the same value, on one line. Raises DeployError.

    Strings come out in double quotes, so that no name, path or address can become a key, a comment or a number.
    """
    text = json.dumps(value, ensure_ascii=False)
    if LONE_SURROGATE.search(text):
        raise DeployError(f"{value!a} is not Unicode text, which YAML and JSON files are; give it another name")
    return ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


@functools.cache
def _environment() -> jinja2.Environment:
    return environment(TEMPLATES, {"json": quoted}, lstrip_blocks=True)


def write(files: dict[str, str], folder: Path, force: bool, *, target: str) -> Written:
    """Make `folder` hold these files, all of them or, if anything fails, what it held before. Raises DeployError.

    What was written is recorded in `.build-repo-<target>.json`, so that files of others, and files that were
    edited since, are refused unless `force` is set. Files of the last run that are no longer rendered go.
    """
    record = f".build-repo-{target}.json"
    before = _recorded(folder / record)
    _require_relative(files)
    stale = {name for name in before if name not in files and (folder / name).is_file()}
    changed = {name for name, text in files.items() if _hash(folder / name) != _hash_of(text)}
    if not force:
        _refuse_foreign(folder, before, changed | stale)
    hashes = json.dumps({name: _hash_of(files[name]) for name in sorted(files)}, indent=2) + "\n"
    try:
        _switch({name: files[name] for name in changed} | {record: hashes}, stale, folder)
    except OSError as error:
        raise DeployError(
            f"{folder} cannot be written: {error.strerror}: {error.filename}; it holds what it held before. Mend that, "
            "or choose another folder with -o"
        ) from None
    return Written(tuple(sorted(changed)), tuple(sorted(set(files) - changed)), tuple(sorted(stale)))


def _recorded(record: Path) -> dict[str, str]:
    """SHA-256 by name, of what the last run wrote; a record that cannot be read is none."""
    try:
        hashes = json.loads(record.read_text(encoding="utf-8"))
        _require_relative(hashes)
        return {str(name): str(value) for name, value in hashes.items()}
    except (OSError, ValueError, AttributeError, TypeError, DeployError):
        return {}


def _require_relative(names: Iterable[str]) -> None:
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise DeployError(f"{name!r} would be written outside the folder")


def _refuse_foreign(folder: Path, before: dict[str, str], names: set[str]) -> None:
    there = [name for name in sorted(names) if (folder / name).exists() or (folder / name).is_symlink()]
    edited = [name for name in there if _hash(folder / name) != before.get(name, "")]
    if edited:
        raise DeployError(
            f"{folder} has files that build-repo did not write, or that were edited since: {', '.join(edited)}; "
            "move them away, choose another folder with -o, or replace them with --force"
        )


def _hash(path: Path) -> str | None:
    """None for what is no plain file."""
    return hashing.sha256(path) if path.is_file() and not path.is_symlink() else None


def _hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _switch(files: dict[str, str], stale: set[str], folder: Path) -> None:
    """Stage everything, then rename; what has been renamed is put back if a rename fails."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-repo-", dir=folder) as temporary, _undone() as undo:
        after, old = Path(temporary) / "after", Path(temporary) / "before"
        for name, text in files.items():
            _stage(after / name, text)
        for name in sorted(stale | set(files)):
            place = folder / name
            if place.exists() or place.is_symlink():
                (old / name).parent.mkdir(parents=True, exist_ok=True)
                undo.append((place.rename(old / name), place))
            if name in files:
                place.parent.mkdir(parents=True, exist_ok=True)
                undo.append(((after / name).rename(place), after / name))
    _remove_empty(folder, stale)


@contextmanager
def _undone() -> Iterator[list[tuple[Path, Path]]]:
    """A list of renames (where it is now, where it was), undone from the last to the first if the block fails."""
    renames: list[tuple[Path, Path]] = []
    try:
        yield renames
    except BaseException:
        for now, was in reversed(renames):
            now.rename(was)
        raise


def _stage(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    if text.startswith(SCRIPT):
        path.chmod(path.stat().st_mode | 0o111)


def _remove_empty(folder: Path, stale: set[str]) -> None:
    """Folders that held files of an earlier run alone."""
    for name in sorted(stale, reverse=True):
        for parent in list((folder / name).relative_to(folder).parents)[:-1]:
            place = folder / parent
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()
