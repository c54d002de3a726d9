"""What is looked at in a model, a family of rules a file, in the order in which the server looks.

A family is a module with RULES and `check(model, context)`, and a line in FAMILIES.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from builder.check.findings import Finding, Rule
from builder.check.model import Context, Model
from builder.check.rules import (
    artifacts,
    backend,
    batch_io,
    batching,
    beyond_control,
    beyond_files,
    beyond_names,
    beyond_packages,
    beyond_serving,
    caching,
    ensembles,
    instances,
    labels,
    libraries,
    loading,
    naming,
    optimization,
    reading,
    release,
    reported,
    repositories,
    sequences,
    states,
    steps,
    tensors,
    versions,
    warmup,
    warmup_files,
)


class Family(Protocol):
    @property
    def RULES(self) -> tuple[Rule, ...]: ...  # noqa: N802

    def check(self, model: Model, context: Context) -> Iterator[Finding]:
        """Every finding of a model whose config could be read; it yields each, and stops at none."""


FAMILIES: dict[str, Family] = {
    "reading": reading,
    "release": release,
    "naming": naming,
    "versions": versions,
    "tensors": tensors,
    "instances": instances,
    "optimization": optimization,
    "backend": backend,
    "artifacts": artifacts,
    "batching": batching,
    "batch_io": batch_io,
    "sequences": sequences,
    "states": states,
    "caching": caching,
    "warmup": warmup,
    "warmup_files": warmup_files,
    "ensembles": ensembles,
    "steps": steps,
    "labels": labels,
    "libraries": libraries,
    "loading": loading,
    "repositories": repositories,
    "reported": reported,
    "beyond_files": beyond_files,
    "beyond_serving": beyond_serving,
    "beyond_names": beyond_names,
    "beyond_packages": beyond_packages,
    "beyond_control": beyond_control,
}
OF_ANY = ("reading", "repositories", "beyond_control")
"""Families of which a model is judged, too, whose config cannot be read."""


def table() -> Mapping[str, Rule]:
    """Every rule, by its code."""
    return {rule.code: rule for family in FAMILIES.values() for rule in family.RULES}
