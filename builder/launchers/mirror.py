"""A server's snapshot follows the repository: what is published comes into it, and what is gone leaves it.

Nothing is loaded by that. Whoever has a server load a version finds it there whole: it is copied beside the snapshot
once the repository rests, held to what the repository's lock records of it, and renamed into place. A version that is
not as recorded is left out, and comes when it is mended. One that is gone from the repository stays until the server
has let go of it.

The standard library alone: the first process of a container uses this, too.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from builder.launchers.snapshot import FOLDER, Listing, Snapshot, close, listing
else:  # beside it, in a container
    from snapshot import FOLDER, Listing, Snapshot, close, listing

LOOK_SECONDS = 0.2
COSTLY = 50
"""Between two looks, so many times as long as one takes: those at a thousand models are no load either."""
TROUBLED_LOOKS = 25
"""To the next try, after one that failed."""
CONFIG, LOCK, WARMUP = "config.pbtxt", "build-repo.lock.json", "warmup"
"""As in builder/repository."""
BLOCK = 1024 * 1024
SPECIFIC = re.compile(rb"version_policy\s*:?\s*\{\s*specific\s*:?\s*\{([^}]*)\}")
"""In a config, where it names the versions that it serves."""

Loaded = Callable[[], Mapping[str, Set[str]]]
"""The versions, by model, that the server has loaded, or is loading or unloading. Raises where it cannot say."""
Prepare = Callable[[Path, Path], None]
"""Of what was copied, and of the models that are there: has the copies run well in this server."""
Stamps = dict[str, tuple[int, int, int]]
Look = tuple[Stamps, Listing]
"""What changes with whatever is published; and of what was refused every file, which may be mended by itself."""


class Mirror:
    """Looks every now and then, in a thread of its own. What goes wrong is said, and tried again."""

    def __init__(
        self,
        taken: Snapshot,
        loaded: Loaded,
        say: Callable[[str], None],
        prepare: Prepare = lambda *_: None,
        checks: bool = True,
        interval: float = LOOK_SECONDS,
    ) -> None:
        """With `checks`, what comes must be as the repository's lock records it."""
        self._taken, self._loaded, self._say, self._prepare = taken, loaded, say, prepare
        self._checks, self._interval = checks, interval
        self._going: set[str] = set()
        """Folders that are gone from the repository, `MODEL/` or `MODEL/VERSION/`."""
        self._said: set[str] = set()
        self._refused: set[str] = set()
        """What was not as it was recorded when the snapshot last followed: models, versions, and single files."""
        self._seen: Look = ({}, {})
        """As it was when the snapshot last followed; nothing: before the first time."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._attend, daemon=True)
        self._thread.start()

    def leave(self, seconds: float = 5.0) -> None:
        self._ended.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(seconds)

    def _attend(self) -> None:
        before: Look = ({}, {})
        while not self._ended.wait(self._interval):
            began = time.monotonic()
            now = stamps(self._taken.repository), listing(self._taken.repository, self._refused)
            self._ended.wait(COSTLY * (time.monotonic() - began) - self._interval)
            try:
                if now == before:
                    self._look(now)
            except Exception as error:  # whatever it is, the server goes on with what it has
                self._tell(f"what is published does not get to this server: {error}")
                self._ended.wait(TROUBLED_LOOKS * self._interval)
            before = now

    def _look(self, now: Look) -> None:
        """Follow what rests, unless that is done."""
        if now != self._seen and (refused := self._follow()) is not None:
            self._seen = now[0], refused
        if self._going:
            self._let_go()

    def _tell(self, message: str) -> None:
        if message not in self._said and not self._ended.is_set():
            self._said.add(message)
            self._say(message)

    def _follow(self) -> Listing | None:
        """What was refused, as it is there; None where something changed meanwhile, so that nothing came.

        What comes is of one moment.
        """
        there, have = listing(self._taken.repository), self._taken.entries
        self._going = _gone(have, there)
        units = _units(have, there)
        if not units:
            self._refused = set()
            return {}
        folder = Path(tempfile.mkdtemp(prefix="coming-", dir=self._taken.folder.parent))
        try:
            return self._come(units, there, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _come(self, units: set[str], there: Listing, folder: Path) -> Listing | None:
        try:
            opened = self._taken.copy(_of(there, units), folder / "new")
        except FileNotFoundError:  # a build took it away
            return None
        try:
            if listing(self._taken.repository) != there:
                return None
            self._refused = self._check(folder / "new", units) if self._checks else set()
            refused, units = _of(there, self._refused), units - self._refused
            _remove(folder / "new", self._refused)
            self._prepare(folder / "new", self._taken.folder)
            for unit in sorted(units, key=_config_last):
                self._place(folder, unit)
            self._taken.adopt({name: opened.pop(name) for name in opened.keys() - refused.keys()})
            self._taken.entries = _without(self._taken.entries, units) | _without(_of(there, units), self._refused)
        finally:
            close(opened)
        return refused

    def _place(self, folder: Path, unit: str) -> None:
        """One rename, or two where something else is in its place."""
        source, target = folder / "new" / unit, self._taken.folder / unit
        target.parent.mkdir(parents=True, exist_ok=True)
        if unit.endswith(FOLDER) and target.exists():
            target.rename(folder / f"old {unit.replace(FOLDER, ' ')}")
        source.rename(target)
        self._taken.stamp([unit])

    def _check(self, new: Path, units: set[str]) -> set[str]:
        """What does not come, since something is not as it was recorded."""
        recorded = _recorded(self._taken.repository / LOCK)
        refused = set()
        for part in sorted(part for unit in units for part in _parts(new, unit)):
            if problem := _problem(new, part, recorded.get(_model(part))):
                self._tell(
                    f"{_named(part)} is not what was built, so this server does not get it: {problem}; bring the file "
                    "back, and it comes"
                )
                refused |= _left_out(new, part, units)
        return refused

    def _let_go(self) -> None:
        """Of the folders that are gone, remove what the server has let go of."""
        loaded = self._loaded()
        for unit in sorted(self._going):
            model, _, version = unit.rstrip(FOLDER).partition(FOLDER)
            if version in loaded.get(model, ()) or (not version and model in loaded):
                continue
            shutil.rmtree(self._taken.folder / unit, ignore_errors=True)
            if version:
                self._taken.stamp([unit])
            self._taken.let_go(unit)
            self._taken.entries = _without(self._taken.entries, {unit})
            self._going.discard(unit)


def stamps(repository: Path) -> Stamps:
    """What changes with whatever is published, by path; cheap to ask for."""
    found: Stamps = {}
    with suppress(OSError):  # it is gone
        paths = [repository / LOCK, *(path for model in repository.iterdir() for path in (model, model / CONFIG))]
        for path in paths:
            with suppress(OSError):  # it has none, or is none
                told = path.stat()
                found[str(path)] = (told.st_ino, told.st_mtime_ns, told.st_size)
    return found


def _model(name: str) -> str:
    return name.partition(FOLDER)[0]


def _version(name: str) -> str:
    """The folder of a version that a path is in, or is; nothing for another path."""
    model, _, rest = name.partition(FOLDER)
    number, slash, _ = rest.partition(FOLDER)
    return f"{model}/{number}/" if slash and number.isdecimal() else ""


def _units(have: Listing, there: Listing) -> set[str]:
    """What is to come, each by a rename: models, versions, and single files."""
    differing = {name for name, told in there.items() if _differs(name, told, have)}
    units = set()
    for name in differing:
        model = _model(name) + FOLDER
        is_new = model in there and model not in have
        units.add(model if is_new else _version(name) or name)
    return {unit for unit in units if not unit.endswith(FOLDER) or _is_unit(unit)}


def _is_unit(folder: str) -> bool:
    """Other folders come with the files in them."""
    return bool(_version(folder)) or folder.count(FOLDER) == 1


def _differs(name: str, told: tuple[int, int, int, int], have: Listing) -> bool:
    return name not in have if name.endswith(FOLDER) else have.get(name) != told


def _gone(have: Listing, there: Listing) -> set[str]:
    gone = {name for name in have.keys() - there.keys() if name.endswith(FOLDER) and _is_unit(name)}
    return {unit for unit in gone if unit == _model(unit) + FOLDER or _model(unit) + FOLDER not in gone}


def _of(entries: Listing, units: set[str]) -> Listing:
    """Those that belong to the units."""
    return {
        name: told
        for name, told in entries.items()
        if name in units or _version(name) in units or (FOLDER in name and _model(name) + FOLDER in units)
    }


def _without(entries: Listing, units: set[str]) -> Listing:
    belonging = _of(entries, units)
    return {name: told for name, told in entries.items() if name not in belonging}


def _config_last(unit: str) -> tuple[bool, str]:
    return (unit.endswith(CONFIG), unit)


def _parts(new: Path, unit: str) -> list[str]:
    """The unit; or the versions of a new model, and the files beside them."""
    if _model(unit) + FOLDER != unit:
        return [unit]
    names = {path.relative_to(new).as_posix() for path in _files(new / unit)}
    folders = {f"{unit}{path.name}/" for path in (new / unit).iterdir() if path.is_dir()}
    return sorted({_version(name) or name for name in names} | set(filter(_version, folders)))


def _named(part: str) -> str:
    model, _, number = part.rstrip(FOLDER).partition(FOLDER)
    return f"version {number} of {model}" if _version(part) else part


def _left_out(new: Path, part: str, units: set[str]) -> set[str]:
    """What does not come where a part does not: what cannot do without it, too."""
    model, config = _model(part) + FOLDER, f"{_model(part)}/{CONFIG}"
    if _version(part) and not _serves(new / config, Path(part).name):
        return {part}
    if model in units:
        return {model}
    return {part, config} & units


def _serves(config: Path, number: str) -> bool:
    """Whether the config needs that version; also where it leaves to the server which it serves."""
    if not config.exists():
        return False
    found = SPECIFIC.search(config.read_bytes())
    return not found or number.encode() in re.findall(rb"\d+", found[1])


def _remove(folder: Path, units: set[str]) -> None:
    for path in (folder / unit for unit in units):
        if path.is_dir():
            shutil.rmtree(path)
        else:  # or it went with its model
            path.unlink(missing_ok=True)


def _recorded(lock: Path) -> dict[str, Any]:
    """What is recorded of each model. Raises OSError for a lock that cannot be read."""
    try:
        models: dict[str, Any] = json.loads(lock.read_bytes())["models"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(f"{lock} cannot be read: {error}") from None
    return models


def _problem(new: Path, part: str, model: Any) -> str:
    """How a version, or a file, differs from what was recorded of its model; nothing where nothing was."""
    if not model:
        return ""
    recorded = {path: digest for version in _versions(model) for path, digest in version["files"].items()}
    folder = new / _model(part)
    for path in _files(new / part):
        name = path.relative_to(folder).as_posix()
        right = _configs(recorded, model) if name == CONFIG else {recorded.get(name)}
        if not (name not in recorded and _is_free(name, model)) and _digest(path) not in right:
            return f"{path.relative_to(new)} {'differs from' if name in recorded else 'is not in'} its lock"
    own = (path for path in recorded if _version(f"{_model(part)}/{path}") == part)
    return next((f"{_model(part)}/{path} is missing" for path in own if not (folder / path).exists()), "")


def _versions(model: Any) -> list[Any]:
    """What is recorded of each; nothing of those that were there before anything was."""
    return [version for version in model["versions"].values() if version]


def _configs(recorded: Mapping[str, str], model: Any) -> set[str]:
    """What the config beside the versions may be."""
    own = {digest for path, digest in recorded.items() if path.rpartition(FOLDER)[2] == CONFIG}
    return own | set(model.get("between", ()))


def _is_free(name: str, model: Any) -> bool:
    """Whether a file may be there unrecorded, as in builder/repository/lock.py."""
    before = [number for number, version in model["versions"].items() if version is None]
    head, _, rest = name.partition(FOLDER)
    return head == WARMUP or head in before or (not rest and bool(before))


def _files(unit: Path) -> list[Path]:
    """Those of a folder; or the file itself."""
    return [path for path in sorted(unit.rglob("*")) if path.is_file()] if unit.is_dir() else [unit]


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest()
