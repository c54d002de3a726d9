"""Back to a version that was published before, or forward again: by the one switch by which it was published.

Nothing is made or lost. What is served goes from one whole version to the other by one rename, as in `publish.py`. What
is to be done is noted beside the repository first, so that the same command after a kill goes on with that, and not one
version further.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from builder.errors import PublishError, RepositoryError, full_or
from builder.repository import layout, lock, names, retention, switching, versions
from builder.repository.layout import CONFIG
from builder.repository.names import Pin
from builder.repository.staging import locked, staging, staging_root, sync


@dataclass(frozen=True)
class RolledBack:
    model: str
    before: int | None
    """None where nobody knows: its config was lost."""
    after: int
    """The same as before where there was nothing to do."""


def roll_back(repository: Path, model: str, to: int | None = None) -> RolledBack:
    """Serve version `to`, or the one before that which is served; running servers are not asked.

    Raises RepositoryError for a version that is not there or not whole, and PublishError.
    """
    versions.require(repository, model)
    with staging(repository) as staged, locked(repository):
        try:
            return _roll_back(repository, model, to, staged)
        except OSError as error:
            raise full_or(PublishError, error)(
                f"{model} cannot be rolled back in {repository}: {error}. The repository serves what it served "
                "before; mend the cause and run this again"
            ) from None


def _roll_back(repository: Path, model: str, to: int | None, staged: Path) -> RolledBack:
    recorded = lock.with_published(lock.read(repository), model, versions.current(repository / model))
    change = _change(repository, model, to, recorded)
    _require_whole(repository, model, change.after)
    role = layout.role_of(repository / model / str(change.after))
    names.refuse_others(repository, model, {model: role})
    _note(repository, change, staged)
    switching.write_lock(repository, recorded)
    _switch(repository, model, change.after, staged)
    recorded = lock.with_published(lock.read(repository), model, change.after)
    switching.write_lock(repository, lock.pruned(recorded, repository))
    _noted_at(repository, model).unlink(missing_ok=True)
    return change


def _change(repository: Path, model: str, to: int | None, recorded: lock.Lock) -> RolledBack:
    """From what to what; of a rollback that was killed, what that was to do."""
    current, noted = versions.current(repository / model), _noted(repository, model)
    there = versions.numbers(repository / model)
    if noted and current in (noted.before, noted.after) and to in (None, noted.after) and noted.after in there:
        return noted
    if to is None:
        to = retention.before(versions.published(repository / model, recorded), current)
    if to is None:
        raise RepositoryError(_no_way_back(repository, model, current))
    return RolledBack(model, current, to)


def _no_way_back(repository: Path, model: str, current: int | None) -> str:
    there = ", ".join(map(str, versions.numbers(repository / model))) or "none"
    if current is None:
        return f"{model} has lost its {CONFIG}, so that nobody knows what it served; name a version, of {there}: --to N"
    return f"{model} serves version {current}, and there is none before it; its versions: {there} (--to N)"


def _require_whole(repository: Path, model: str, number: int) -> None:
    there, recorded = versions.numbers(repository / model), lock.read(repository)
    if number not in there:
        listed = ", ".join(map(str, there)) or "none"
        raise RepositoryError(f"{model} has no version {number}; its versions: {listed}")
    problem = versions.damage(repository, model, number, recorded)
    if problem:
        others = [other for other in there if not versions.damage(repository, model, other, recorded, read=False)]
        whole = ", ".join(str(other) for other in others if other != number) or "none"
        raise RepositoryError(
            f"{model} cannot go to version {number}: {problem}. Bring the files back, or choose another version with "
            f"--to; whole are: {whole}"
        )


def _switch(repository: Path, model: str, number: int, staged: Path) -> None:
    text = _text(repository, Pin(model, number))
    network = versions.network_of(repository, model, number)
    if network is None:
        switching.replace_config(staged, repository / model, text)
        return
    own = _text(repository, network)
    _prepare_network(repository, model, number, network, staged)
    switching.replace_config(staged, repository / model, text)  # the switch
    switching.replace_config(staged, repository / network.name, own)


def _prepare_network(repository: Path, model: str, number: int, network: Pin, staged: Path) -> None:
    """Until the switch, what is served may call another version of the same network."""
    folder, own = repository / network.name, _text(repository, network)
    called = {pin.name for pin in names.called(repository / model / CONFIG)}
    before = switching.config_or_none(folder)
    if before is None or network.name not in called:
        switching.replace_config(staged, folder, own)
    elif versions.current(repository / model) != number:
        both = switching.serving_both(before, own)
        switching.write_lock(repository, lock.with_passing(lock.read(repository), repository, network.name, both))
        switching.replace_config(staged, folder, both)


def _text(repository: Path, pin: Pin) -> str:
    return (repository / pin.name / str(pin.version) / CONFIG).read_text(encoding="utf-8")


def _noted_at(repository: Path, model: str) -> Path:
    return staging_root(repository) / f"rollback-{model}.json"


def _noted(repository: Path, model: str) -> RolledBack | None:
    try:
        return RolledBack(**json.loads(_noted_at(repository, model).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _note(repository: Path, change: RolledBack, staged: Path) -> None:
    path = _noted_at(repository, change.model)
    temporary = staged / path.name
    temporary.write_text(json.dumps(asdict(change)), encoding="utf-8")
    sync(temporary)
    temporary.replace(path)
