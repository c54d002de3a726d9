"""What of a far side goes once something new is there: by the rule that prunes repositories on this machine."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from builder.repository import retention
from builder.stores.record import Model, Record, Version


@dataclass(frozen=True)
class Retention:
    keep: int | None = None
    """Versions of each model, with the current one."""
    older_than: float | None = None
    """Seconds."""

    @property
    def is_asked(self) -> bool:
        return self.keep is not None or self.older_than is not None


def reduced(record: Record, wish: Retention, names: Collection[str], removed: Collection[str]) -> Record:
    """Without what goes: by the wish versions of these models, all of those `removed`, and parts that nothing needs.

    Without a wish no version goes. What nobody knows the role of stays.
    """
    known = {name: _plain(model) for name, model in record.models.items() if model.role and model.current}
    chosen = names if wish.is_asked else ()
    going = retention.doomed(known, wish.keep, wish.older_than, time.time(), chosen, removed)
    models = {name: _without(model, going.get(name, ())) for name, model in record.models.items()}
    return replace(record, models={name: model for name, model in models.items() if model is not None})


def _plain(model: Model) -> retention.Model:
    versions = {
        int(number): retention.Version(
            frozenset((name, int(called)) for name, called in version.calls.items()), _built_at(version)
        )
        for number, version in model.versions.items()
    }
    return retention.Model(versions, model.is_asked, int(model.current) if model.is_asked else None)


def _built_at(version: Version) -> float | None:
    facts: Any = version.built_from.get("facts")
    try:
        return datetime.fromisoformat(facts["built_at"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


def _without(model: Model, numbers: Collection[int]) -> Model | None:
    versions = {number: version for number, version in model.versions.items() if int(number) not in numbers}
    if not versions and model.versions:
        return None
    current = model.current if model.current in versions else max(versions, key=int, default="")
    return replace(model, versions=versions, current=current)
