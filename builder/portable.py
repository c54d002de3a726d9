"""An entry without the places of one machine: to be recorded, and to be built elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from builder.manifest import ModelSpec
from builder.plan import Plan
from builder.recipe import PreprocessRecipe
from builder.usercode import is_callable_name


def whole(path: Path) -> Path:
    """The path from the root on. Folders behind links get their own names; a file keeps the one it was given."""
    return path.parent.resolve() / path.name


def relative(path: Path, base: Path) -> str:
    return Path(os.path.relpath(whole(path), base.resolve())).as_posix()


def portable(plan: Plan) -> ModelSpec:
    """The entry with every path relative to the manifest's folder: the same on any machine."""
    spec, base = plan.spec, plan.manifest.path.parent
    changes: dict[str, Any] = {"network": _callable(spec.network, base), "weights": plan.weights.name}
    if plan.weights.path:
        changes["weights"] = relative(plan.weights.path, base)
    if isinstance(spec.labels, Path):
        changes["labels"] = Path(relative(plan.manifest.resolve(spec.labels), base))
    for key in ("images", "calibration"):
        if images := getattr(spec, key):
            changes[key] = images.model_copy(update={"data": _data(images.data, base)})
    return spec.model_copy(update=changes)


def _data(data: str, base: Path) -> str:
    """As `pictures.find` tells callables and folders apart."""
    if is_callable_name(data) and not (base / data).exists():
        return _callable(data, base)
    return relative(base / Path(data).expanduser(), base)


def _callable(name: str, base: Path) -> str:
    place, _, attribute = name.rpartition(":")
    return f"{relative(base / place, base)}:{attribute}" if is_callable_name(name) and place.endswith(".py") else name


def built_from(plan: Plan, recipe: PreprocessRecipe, facts: dict[str, str]) -> dict[str, Any]:
    """For the lock: the entry as it was understood, and what the config records too."""
    entry = portable(plan).model_dump(mode="json", exclude_none=True)
    if not isinstance(plan.spec.labels, Path):
        entry.pop("labels", None)  # they are a file of the version
    resolved = {
        "preprocess": recipe.model_dump(mode="json"),
        "tolerance": plan.limits.model_dump(mode="json", exclude_none=True),
        "threads": plan.target.threads,
    }
    return {"entry": entry | resolved, "facts": facts}
