"""Old versions, and models that nobody builds any more, out of a repository that goes on serving.

Nothing that is served lacks anything at any moment: what clients ask goes before what it calls, each folder by one
rename out of the repository; a config that has a server load what is to go is replaced before. A kill leaves whole
versions, and the same command goes on. What may go is `retention.py`'s rule.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from builder.errors import ConfigError, PublishError, full_or
from builder.repository import disk, history, layout, lock, names, retention, switching, versions
from builder.repository.layout import CONFIG, WARMUP_FOLDER
from builder.repository.names import Pin
from builder.repository.staging import locked, staging
from builder.triton import model_config


@dataclass(frozen=True)
class Wish:
    models: tuple[str, ...] = ()
    """None: all."""
    keep: int | None = None
    older_than: float | None = None
    """Seconds."""
    removed: Collection[str] = ()
    """Models that are to go as a whole."""
    only_removed: bool = False
    """Whether versions of the others are left alone."""
    served: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """Versions that running servers have, by the model's name."""
    consent: bool | None = None
    """None: at most one version goes unasked. False: nothing does."""


@dataclass(frozen=True)
class Pruned:
    versions: retention.Doomed
    """What goes, or would go, by the model's name."""
    removed: tuple[str, ...]
    """Those of them that go as a whole."""
    bytes: int
    """What the disk gets back."""
    is_done: bool
    kept: tuple[str, ...] = ()
    """Why models stay that were to go."""


def prune(repository: Path, wish: Wish, now: float) -> Pruned:
    """`now` is in seconds since 1970. Raises RepositoryError for a model that is not there, and PublishError."""
    versions.asked(repository)  # is it a repository?
    for name in wish.models:
        versions.require(repository, name)
    with staging(repository) as staged, locked(repository):
        try:
            return _prune(repository, wish, now, staged)
        except OSError as error:
            raise full_or(PublishError, error)(
                f"{repository} cannot be pruned: {error}. It serves what it served before; mend the cause and run "
                "this again"
            ) from None


def _prune(repository: Path, wish: Wish, now: float, staged: Path) -> Pruned:
    models = survey(repository, wish)
    only = () if wish.only_removed else wish.models or None
    doomed = retention.doomed(models, wish.keep, wish.older_than, now, only, wish.removed)
    gone = tuple(name for name in sorted(wish.removed) if name in doomed)
    asked = sum(len(numbers) for name, numbers in doomed.items() if models[name].is_asked)
    # A whole model is more than a version of it.
    consent = not gone and asked <= 1 if wish.consent is None else wish.consent
    plan = {name: _paths(repository, name, doomed.get(name, ())) for name in _callers_first(models)}
    going = disk.freed(path for paths in plan.values() for path in paths)
    if consent:
        for name, paths in plan.items():
            _take(repository, name, doomed.get(name, ()), paths, staged)
        switching.write_lock(repository, lock.pruned(lock.read(repository), repository))
    return Pruned(doomed, gone, going, consent, tuple(_kept(models, wish, gone)))


def _callers_first(models: Mapping[str, retention.Model]) -> list[str]:
    return sorted(models, key=lambda name: (not models[name].is_asked, name))


def _kept(models: Mapping[str, retention.Model], wish: Wish, gone: Collection[str]) -> Iterator[str]:
    for name in sorted(set(wish.removed) - set(gone)):
        if name in models:
            by = "a server has it" if wish.served.get(name) else "an ensemble asks it"
            yield f"{name} stays: {by}"


def survey(repository: Path, wish: Wish) -> dict[str, retention.Model]:
    """All models of ours, for `retention.doomed`."""
    asked, recorded = set(versions.asked(repository)), lock.read(repository)
    pinned = _pinned(repository, asked)
    found = {name: _asked(repository, name, recorded, pinned.get(name, set()), wish) for name in asked}
    parts = [path.parent for path in repository.glob(f"*/{CONFIG}") if layout.role_of(path.parent) in layout.PARTS]
    return found | {part.name: _part(part, pinned.get(part.name, set())) for part in parts}


def _pinned(repository: Path, asked: Collection[str]) -> dict[str, set[int]]:
    """What ensembles of others ask, and what is left of our own where they are damaged."""
    found: dict[str, set[int]] = {}
    for config in (*repository.glob(f"*/{CONFIG}"), *repository.glob(f"*/*/{CONFIG}")):
        if config.relative_to(repository).parts[0] not in asked:
            for pin in names.called(config):
                # Of the newest, a server knows only what the config lists.
                known = [pin.version] if pin.version > 0 else versions.listed(repository / pin.name)
                found.setdefault(pin.name, set()).update(known)
    return found


def _asked(repository: Path, name: str, recorded: lock.Lock, pinned: set[int], wish: Wish) -> retention.Model:
    folder = repository / name
    there, current = versions.numbers(folder), versions.current(folder)
    found = {number: _version(repository, Pin(name, number), recorded) for number in there}
    if current in found:
        # A current version from before configs were copied has only the one beside the versions.
        needs = frozenset(names.called(folder / CONFIG)) | found[current].needs
        found[current] = replace(found[current], needs=needs)
    pinned = pinned | wish.served.get(name, frozenset()) | set(versions.listed(folder)) - {current}
    if current is None and name not in wish.removed:
        pinned |= set(there)  # it lost its config, and nobody knows what is served
    return retention.Model(found, True, current, frozenset(pinned))


def _version(repository: Path, pin: Pin, recorded: lock.Lock) -> retention.Version:
    needs = frozenset(versions.pins(repository, *pin)[1:])
    built = history.seconds(history.built_at(history.facts(repository, pin, recorded)))
    is_good = pin.version in versions.published(repository / pin.name, recorded)
    return retention.Version(needs, built, is_good and not versions.damage(repository, *pin, recorded, read=False))


def _part(folder: Path, pinned: Collection[int]) -> retention.Model:
    there = versions.numbers(folder)
    is_step = layout.role_of(folder) in layout.STEP_ROLES
    # Without a config of their own, nobody could tell what those that stay are.
    alone = [] if is_step else [number for number in there if not (folder / str(number) / CONFIG).is_file()]
    return retention.Model({number: retention.Version() for number in there}, False, None, frozenset({*pinned, *alone}))


def _paths(repository: Path, name: str, going: Sequence[int]) -> list[Path]:
    """What is taken away, in this order: the whole model with its last version."""
    model = repository / name
    staying = set(versions.numbers(model)) - set(going)
    if going and not staying:
        return [model]
    return [*(model / str(number) for number in going), *_unused_warmup(model, staying)]


def _take(repository: Path, name: str, going: Sequence[int], paths: Sequence[Path], staged: Path) -> None:
    model = repository / name
    staying = set(versions.numbers(model)) - set(going)
    if staying and set(versions.listed(model)) & set(going):
        _list_others(repository, name, staying, staged)
    for path in paths:
        switching.take_away(repository, path)


def _list_others(repository: Path, name: str, staying: set[int], staged: Path) -> None:
    """Have the config beside the versions name none that goes: no server could load the model then."""
    model = repository / name
    pins = {pin for config in repository.glob(f"*/{CONFIG}") for pin in names.called(config)}
    needed = {pin.version for pin in pins if pin.name == name}
    number = max(needed & staying or set(versions.listed(model)) & staying or staying)
    switching.replace_config(staged, model, (model / str(number) / CONFIG).read_text(encoding="utf-8"))


def _unused_warmup(model: Path, staying: Collection[int]) -> list[Path]:
    """What warms up none of the versions that stay; it is named by its content, so that several may share it."""
    files = sorted((model / WARMUP_FOLDER).glob("*"))
    configs = [model / CONFIG, *(model / str(number) / CONFIG for number in staying)] if files else []
    needed = {file for config in configs for file in _warmup(config)}
    unused = [file for file in files if file.name not in needed]
    recorded = lock.read(model.parent).get(model.name) if unused else None
    told = [version.files for number in staying if recorded and (version := recorded.versions.get(str(number)))]
    return [file for file in unused if not any(f"{WARMUP_FOLDER}/{file.name}" in files for files in told)]


def _warmup(config: Path) -> set[str]:
    try:
        model = model_config.read(config)
    except (OSError, ConfigError):
        return set()
    return {tensor.input_data_file for warmup in model.model_warmup for tensor in warmup.inputs.values()}
