"""What a build would do: for each entry, whether what is published was built of what the entry names now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.build.entry import Entry
from builder.build.inputs import OPENED, Inputs, Reading, differences, remembered
from builder.errors import OutdatedError
from builder.repository import lock, whole
from builder.repository.lock import Lock, Model

UP_TO_DATE, NEW, CHANGED = "up to date", "new", "changed"
UNRECORDED = "nothing was recorded"
REPOSITORY = "repository"
"""What changed where the published files themselves are not as they were published."""
SHOWN = 5


@dataclass(frozen=True)
class Plan:
    """What a build does about one entry."""

    name: str
    state: str
    """UP_TO_DATE, NEW or CHANGED."""
    version: int | None = None
    """The one that is published."""
    changes: dict[str, list[str]] = field(default_factory=dict)
    """By name of what changed, what of it."""
    taken_back: int | None = None
    """A later version, built of just this, in whose place `rollback` has put the published one."""

    @property
    def is_due(self) -> bool:
        return self.state != UP_TO_DATE

    def __str__(self) -> str:
        if self.changes:
            return f"{self.state}: {', '.join(self.changes)}"
        if self.taken_back:
            return f"{self.state}: version {self.taken_back}, which was rolled back"
        return self.state


def plans(entries: Iterable[Entry], repository: Path) -> list[Plan]:
    """In the entries' order. Nothing is written but digests of files, beside the repository. Raises RepositoryError."""
    recorded, digests = lock.read(repository), remembered(repository)
    reading = Reading(digests)
    found = [_plan(entry, repository, recorded, reading) for entry in entries]
    digests.save()
    return found


def _plan(entry: Entry, repository: Path, recorded: Lock, reading: Reading) -> Plan:
    name, model = entry.name, recorded.get(entry.name)
    folder = repository / name
    if not folder.is_dir():
        return Plan(name, NEW)
    current = whole.current(folder, model) if model else None
    if not model or not current:
        return Plan(name, CHANGED, None, {UNRECORDED: []} if not model else {REPOSITORY: [_no_version(name)]})
    inputs = reading.of(entry)
    changes = _changes(entry, model, current, inputs, reading)
    if faults := whole.faults(repository, recorded, name, current):
        changes = {REPOSITORY: faults} | changes
    later = _taken_back(entry, model, current, inputs, reading) if changes else None
    if later and not faults:
        return Plan(name, UP_TO_DATE, int(current), {}, int(later))
    return Plan(name, CHANGED if changes else UP_TO_DATE, int(current), changes)


def _no_version(name: str) -> str:
    return f"{name}/config.pbtxt is that of none of its versions"


def _changes(entry: Entry, model: Model, number: str, inputs: Inputs, reading: Reading) -> dict[str, list[str]]:
    """Of several plans of one model, of the first that differs."""
    for recorded in _recorded(model, number):
        if recorded is None:
            return {UNRECORDED: []}
        opened = reading.again(entry, recorded.get(OPENED, {}))
        if found := differences(recorded, inputs | ({OPENED: opened} if opened else {})):
            return found
    return {}


def _recorded(model: Model, number: str) -> Iterator[Any]:
    """What the version was built of; one that was merged has it of every plan. None: nothing says."""
    version = model.versions[number]
    origin: dict[str, Any] = version.built_from if version else {}
    for one in origin.get("plans", {"": origin}).values():
        yield one.get("inputs")


def _taken_back(entry: Entry, model: Model, current: str, inputs: Inputs, reading: Reading) -> str | None:
    """A later version that was published, and is not now. One that never was belongs to a build that was killed."""
    later = [n for n, version in model.versions.items() if version and version.was_published and int(n) > int(current)]
    return next((n for n in sorted(later, key=int) if not _changes(entry, model, n, inputs, reading)), None)


def require_up_to_date(found: Sequence[Plan]) -> None:
    """Raise OutdatedError, with what differs, if anything would be built."""
    due = [plan for plan in found if plan.is_due]
    if due:
        lines = "\n".join(f"  {line}" for plan in due for line in described(plan))
        raise OutdatedError(
            f"{len(due)} of {len(found)} entries would be built:\n{lines}\nBuild them without --locked, or bring back "
            "what they were built of"
        )


def described(plan: Plan) -> Iterator[str]:
    """The plan in a line, and what changed in lines of their own."""
    yield f"{plan.name}: {plan}"
    for details in plan.changes.values():
        yield from (f"  {detail}" for detail in details[:SHOWN])
        if len(details) > SHOWN:
            yield f"  and {len(details) - SHOWN} more"
