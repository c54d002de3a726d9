"""How a repository stands: by model what there is, what is published, what a build would do; by server what it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from builder.build.changes import Plan, plans
from builder.build.entry import Entry
from builder.errors import RolloutError
from builder.lifecycle.serving import Serving
from builder.repository import lock, sizes, whole
from builder.repository.layout import CONFIG
from builder.repository.lock import Lock
from builder.triton.connection import Access

REMOVED = "removed; prune --removed takes it away"
INTACT, UNRECORDED = "intact", "not recorded"
MOST_AT_ONCE = 32
Ask = Callable[[Access], Mapping[str, Serving]]


@dataclass(frozen=True)
class ModelStatus:
    """One model that the manifest names, or that is published."""

    name: str
    versions: tuple[int, ...]
    """Those that are there."""
    published: int | None
    plan: Plan | None
    """None: the manifest does not have it (any more), or there is none."""
    is_removed: bool
    problems: tuple[str, ...]
    """What differs from the lock."""
    is_recorded: bool
    bytes: int

    @property
    def lock(self) -> str:
        """In words; nothing of what is not built yet."""
        if not self.versions:
            return ""
        return "; ".join(self.problems) or (INTACT if self.is_recorded else UNRECORDED)


@dataclass(frozen=True)
class ServerStatus:
    """One server: what it serves, or why that cannot be told."""

    url: str
    serving: Mapping[str, Serving]
    error: RolloutError | None = None

    @property
    def versions(self) -> dict[str, int]:
        return {name: one.version for name, one in self.serving.items()}


@dataclass(frozen=True)
class Status:
    models: list[ModelStatus]
    shared_bytes: int
    """Of steps that several models ask."""
    servers: list[ServerStatus]

    @property
    def bytes(self) -> int:
        return self.shared_bytes + sum(model.bytes for model in self.models)


def status(
    repository: Path,
    entries: Sequence[Entry] | None,
    servers: Iterable[Access],
    ask: Ask,
    is_checked: bool = False,
) -> Status:
    """`entries` are all of the manifest's; None: there is no manifest. `is_checked`: every file is read and compared.

    `ask` gives what a server serves. Raises RepositoryError.
    """
    recorded = lock.read(repository)
    due = {plan.name: plan for plan in plans(entries or (), repository)}
    published = whole.served(repository, recorded)
    names = [*due, *(name for name in published if name not in due)]
    own, shared = sizes.of_models(repository, [name for name in names if (repository / name).is_dir()])
    found = lock.problems(repository) if is_checked else None
    models = [
        _model(repository, recorded, name, due.get(name), entries is not None, found, own.get(name, 0))
        for name in names
    ]
    return Status(models, shared, _all_asked(list(servers), ask))


def _model(
    repository: Path,
    recorded: Lock,
    name: str,
    plan: Plan | None,
    has_manifest: bool,
    found: list[str] | None,
    size: int,
) -> ModelStatus:
    folder, model = repository / name, recorded.get(name)
    versions = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
    number = whole.current(folder, model) if model else None
    problems = _problems(repository, recorded, name, number) if found is None else _of_parts(found, folder, number)
    return ModelStatus(
        name,
        tuple(sorted(versions)),
        int(number) if number else None,
        plan,
        has_manifest and plan is None,
        tuple(problems),
        model is not None,
        size,
    )


def _problems(repository: Path, recorded: Lock, name: str, number: str | None) -> list[str]:
    """As far as can be told without reading the artifacts."""
    if number:
        return whole.faults(repository, recorded, name, number)
    is_odd = name in recorded and (repository / name).is_dir()
    return [f"{name}/{CONFIG} is that of none of its versions"] if is_odd else []


def _of_parts(found: list[str], folder: Path, number: str | None) -> list[str]:
    """Those of what was found that are in the model's folder, or in those that its published version asks."""
    asked = {name for name, _ in whole.calls(folder / number / CONFIG)} if number else set()
    return [problem for problem in found if problem.partition("/")[0] in {folder.name, *asked}]


def _all_asked(servers: Sequence[Access], ask: Ask) -> list[ServerStatus]:
    """At the same time, so that servers which do not answer are waited for together."""
    if not servers:
        return []
    with ThreadPoolExecutor(min(len(servers), MOST_AT_ONCE)) as pool:
        return list(pool.map(lambda access: _asked(access, ask), servers))


def _asked(access: Access, ask: Ask) -> ServerStatus:
    """A server that is away is not the end of the others."""
    try:
        return ServerStatus(access.url, ask(access))
    except RolloutError as error:
        return ServerStatus(access.url, {}, error)
