"""Which versions may go: a rule over plain data, the same for a repository here and for one elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

Pin = tuple[str, int]
"""A model's name and its version."""
Doomed = dict[str, tuple[int, ...]]
"""By the model's name the versions that may go, ascending; of nothing else there is a key."""
KEPT = 2
"""With no wish of the user's: what is current, and what one would go back to."""


@dataclass(frozen=True)
class Version:
    needs: frozenset[Pin] = frozenset()
    """What its config calls, an ensemble's; empty for what calls nothing."""
    built_at: float | None = None
    """Seconds since 1970; None where nobody knows, which counts as new."""
    is_whole: bool = True
    """Whether one would go back to it: what is damaged, or what nobody ever got, is no reason to let go of others."""


@dataclass(frozen=True)
class Model:
    versions: Mapping[int, Version]
    is_asked: bool = True
    """By clients: an ensemble, or a network by itself. A part, which only ensembles ask, goes with the last of them."""
    current: int | None = None
    """What is served; None for parts."""
    pinned: frozenset[int] = frozenset()
    """Versions that somebody else needs: ensembles that others wrote, and running servers."""


def doomed(
    models: Mapping[str, Model],
    keep: int | None,
    older_than: float | None,
    now: float,
    only: Collection[str] | None = None,
    removed: Collection[str] = (),
) -> Doomed:
    """Of what clients ask, the versions that go by the user's wish; and of parts, those that no version left needs.

    `keep` counts the newest, with the current one; `older_than` is an age in seconds. With both, what goes is beyond
    the one and older than the other; with neither, KEPT are kept. `only` has the names to look at; None: all.
    `removed` go as a whole, unless something of theirs is pinned, or is called by a version that stays.

    Never goes: the current version, the one before it, which is gone back to, and the newest, whose number the next
    build would take for another.
    """
    asked = {name: model for name, model in models.items() if model.is_asked}
    going = {name: set(model.versions) for name, model in asked.items() if name in removed and not model.pinned}
    for name, model in asked.items():
        if name not in removed and (only is None or name in only):
            going[name] = set(_beyond(model, keep, older_than, now))
    needed = _hold(models, going, removed)
    for name, model in models.items():
        if not model.is_asked:
            going[name] = {number for number in model.versions if (name, number) not in needed} - model.pinned
    return {name: tuple(sorted(numbers)) for name, numbers in going.items() if numbers}


def before(versions: Iterable[int], current: int | None) -> int | None:
    """The version that one goes back to: numbers only ever rise, so it is the highest one below."""
    return max((number for number in versions if current is not None and number < current), default=None)


def _beyond(model: Model, keep: int | None, older_than: float | None, now: float) -> Iterable[int]:
    numbers = sorted(model.versions, reverse=True)
    whole = [number for number in numbers if model.versions[number].is_whole]
    kept = {*numbers[:1], model.current, *model.pinned, *(before(those, model.current) for those in (numbers, whole))}
    others = [number for number in numbers if number != model.current]
    most = KEPT if keep is None and older_than is None else keep
    if most is not None:
        kept |= set(others[: max(most - 1, 0)])
    for number in numbers:
        if number not in kept and (older_than is None or _is_older(model.versions[number], older_than, now)):
            yield number


def _is_older(version: Version, older_than: float, now: float) -> bool:
    """One that comes from the future, as where a clock went back, is new."""
    return version.built_at is not None and now - version.built_at > older_than


def _hold(models: Mapping[str, Model], going: dict[str, set[int]], removed: Collection[str]) -> set[Pin]:
    """What the versions that stay need; what they need themselves, though it was to go, stays as well."""
    while True:
        needed = _needed(models, going)
        back = {(name, number) for name, numbers in going.items() for number in numbers} & needed
        if not back:
            return needed
        for name, number in back:
            # A model that was to go as a whole stays as a whole: part of one is none.
            going[name] -= going[name] if name in removed else {number}


def _needed(models: Mapping[str, Model], going: Mapping[str, set[int]]) -> set[Pin]:
    return {
        pin
        for name, model in models.items()
        if model.is_asked
        for number, version in model.versions.items()
        if number not in going.get(name, ())
        for pin in version.needs
    }
