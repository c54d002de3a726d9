"""Whose a name in a repository is: what may be published under it, and what is there that nobody asks for."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from builder.errors import ConfigError, PublishError
from builder.repository import layout
from builder.repository.layout import CONFIG, role_of
from builder.repository.staging import StagedStep
from builder.triton import model_config
from builder.util import hashing


def refuse_foreign(repository: Path, names: Iterable[str]) -> None:
    """Raise PublishError where a name is that of a folder which build-repo did not make."""
    for name in names:
        if (repository / name).exists() and not role_of(repository / name):
            raise PublishError(
                f"{repository / name} was not made by build-repo, so it is left alone; move it away, or give the "
                "entry in the manifest another name"
            )


def refuse_others(repository: Path, served: str, roles: Mapping[str, str]) -> None:
    """Raise PublishError where a name is another served model's, or that of its step.

    `served` is the name that clients ask for, `roles` has by name what is to be published of it. A network is its
    ensemble's alone; only steps, which are named by their content, are shared. What clients ask for may be an ensemble
    at one time and a network by itself at another; ensembles that somebody wrote around the latter go on asking it.
    """
    users = _users(repository)
    for name, role in roles.items():
        existing, owners = role_of(repository / name), users.get(name, set()) - {served}
        is_shared = role == existing and role in (*layout.STEP_ROLES, layout.MODEL)
        if existing and (not layout.same_kind(role, existing) or (owners and not is_shared)):
            whose = f" of {', '.join(map(repr, sorted(owners)))}" if owners else ""
            raise PublishError(
                f"{name!r} is in {repository} the {existing}{whose}, and would be overwritten with the {role} of "
                f"{served!r}; give one of the entries another name, or another repository (-r)"
            )


def refuse_other_steps(repository: Path, steps: Iterable[StagedStep]) -> None:
    """Raise PublishError if a step of this name is there and does something else: the new model would run that."""
    for step in steps:
        there = repository / step.name
        if there.exists() and hashing.digests(there) != hashing.digests(step.folder):
            raise PublishError(
                f"{there} is not the step that its name stands for: its files differ from what is to be published; it "
                "was changed, or damaged. Move it away, and build again every model that uses it"
            )


def orphans(repository: Path) -> list[Path]:
    """Our networks and steps that no version of an ensemble names."""
    return _parts_beside(repository, set(_users(repository)))


def retired(repository: Path) -> set[str]:
    """Our networks and steps that only former versions name, or none: nothing that is served needs them."""
    needed = {pin.name for config in repository.glob(f"*/{CONFIG}") for pin in called(config)}
    return {model.name for model in _parts_beside(repository, needed)}


def _parts_beside(repository: Path, needed: set[str]) -> list[Path]:
    configs = sorted(repository.glob(f"*/{CONFIG}"))
    return [file.parent for file in configs if file.parent.name not in needed and role_of(file.parent) in layout.PARTS]


def _users(repository: Path) -> dict[str, set[str]]:
    """By the name of a model, the ensembles that ask it in any version, foreign ones too."""
    found: dict[str, set[str]] = {}
    for config in repository.glob(f"*/{CONFIG}"):
        for pin in called(config):
            found.setdefault(pin.name, set()).add(config.parent.name)
    for config in repository.glob(f"*/*/{CONFIG}"):
        if config.parent.name.isdecimal():
            for pin in called(config):
                found.setdefault(pin.name, set()).add(config.parents[1].name)
    return found


class Pin(NamedTuple):
    """What an ensemble asks."""

    name: str
    version: int
    """-1: the newest that is served."""


def called(config: Path) -> tuple[Pin, ...]:
    """By an ensemble with that config; nothing by another model, nor by one that cannot be read."""
    try:
        return _called(config.read_bytes())
    except (ConfigError, OSError):
        return ()


@functools.lru_cache(maxsize=4096)
def _called(text: bytes) -> tuple[Pin, ...]:
    """Parsing takes a millisecond, and a repository has as many configs as there were builds."""
    if b"ensemble_scheduling" not in text:
        return ()
    calls = model_config.parse(text.decode(errors="replace"), "an ensemble").ensemble_scheduling.step
    return tuple(Pin(call.model_name, call.model_version) for call in calls)
