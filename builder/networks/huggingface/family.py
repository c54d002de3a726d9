"""The family of snapshots, as the registry has it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.data.recipe import PreprocessRecipe
from builder.errors import NetworkError
from builder.networks.huggingface import detectors, hub, pictures, processors, snapshot, texts
from builder.networks.huggingface.kinds import DETECTION, TEXT, TRUST, kind_of, require_counted, require_trusted
from builder.networks.huggingface.loading import ATTENTION, ATTENTIONS, SNAPSHOT, Loaded, imported, load
from builder.networks.huggingface.names import matches, parsed
from builder.networks.huggingface.snapshot import Snapshot
from builder.types import Network, NetworkFacts, NetworkRequest

__all__ = ["DEFAULT_WEIGHTS", "arguments", "commit", "facts", "make", "matches", "names", "task"]

DEFAULT_WEIGHTS: str | None = SNAPSHOT
UNNAMED = re.compile(r"LABEL_\d+")
"""What transformers calls classes that nobody named."""


def names() -> Sequence[str]:
    return ()


def facts(name: str) -> NetworkFacts:
    raise NetworkError(f"nothing is published of {name}")


def arguments(name: str) -> Sequence[str] | None:
    del name
    return (TRUST, ATTENTION)


def commit(name: str, base: Path) -> str:
    """Of the hub's repository, as this machine has it; empty for a folder, and for what was not fetched yet."""
    place = parsed(name, base)
    return "" if place.folder else hub.commit_of(place)


def task(name: str, base: Path) -> str:
    """What the network is made for. Raises NetworkError."""
    return kind_of(_found(name, base)).task


def make(request: NetworkRequest) -> Network:
    """Raises NetworkError, WeightsError."""
    _require_arguments(request)
    trusted = bool(request.arguments.get(TRUST))
    found = _found(request.name, request.base, trusted)
    require_trusted(found, trusted)
    require_counted(found)
    kind = kind_of(found)
    loaded = load(found, kind, request)
    if kind.task == TEXT:
        module, told = texts.module(loaded, kind), texts.facts(found, kind, loaded)
        labels = None if kind.is_encoder else labels_of(loaded.config)
        return Network(module, None, labels, loaded.trained, loaded.facts, texts=told)
    return _of_pictures(found, kind.task, loaded)


def _of_pictures(found: Snapshot, task: str, loaded: Loaded) -> Network:
    """Without a recipe where its processor makes none; an entry may say it in full."""
    module = detectors.module(found, loaded) if task == DETECTION else pictures.module(loaded)
    labels, facts, missing = labels_of(loaded.config), loaded.facts, ""
    recipe: PreprocessRecipe | None = None
    try:
        recipe = processors.recipe_of(found, imported(), finds=task == DETECTION)
    except processors.Refused as error:
        missing = f"of {found.name}, {error}"
    return Network(module, recipe, labels, loaded.trained, facts, recipe_missing=missing)


def _found(name: str, base: Path, with_code: bool = False) -> Snapshot:
    place = parsed(name, base)
    return snapshot.of_folder(place) if place.folder else hub.fetched(place, with_code)


def labels_of(config: Any) -> tuple[str, ...] | None:
    """The classes' names, in their order; None where nobody named them."""
    named = getattr(config, "id2label", None) or {}
    labels = tuple(str(named[number]) for number in sorted(named))
    return None if not labels or any(UNNAMED.fullmatch(label) for label in labels) else labels


def _require_arguments(request: NetworkRequest) -> None:
    given = request.arguments
    if not isinstance(given.get(TRUST, False), bool):
        raise NetworkError(f"{request.name}: {TRUST} is true or false, not {given[TRUST]!r}")
    if ATTENTION in given and given[ATTENTION] not in ATTENTIONS:
        raise NetworkError(f"{request.name}: {ATTENTION} is one of {', '.join(ATTENTIONS)}, not {given[ATTENTION]!r}")
