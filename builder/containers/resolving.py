"""The image that a repository is served with: the user's, or NVIDIA's with what its steps need."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.containers import building, choice, nvidia
from builder.containers.order import BASE_NAME, FINGERPRINT, LABEL, TRITON, Order
from builder.machine.hardware import Gpu
from builder.repository.served import Served, requirements
from builder.triton import advisories, releases
from builder.types import Report

DERIVED = "build-repo/tritonserver"
OTHER = re.compile(r"[^\w.-]+", re.ASCII)


@dataclass(frozen=True)
class Resolved:
    reference: str
    kind: str
    """Of an image of ours, else empty."""
    triton: str | None = None
    """The version of its server, where its name or labels tell."""


def resolve(
    client: Any,
    models: Sequence[Served],
    image: str | None,
    gpu: Gpu | None,
    report: Report = lambda _: None,
    tell: Report = lambda _: None,
) -> Resolved:
    """The image, on this machine afterwards; `tell` is told why it, before anything is pulled. Raises ImageError."""
    if image:
        labels = building.require(client, image, report).labels
        return Resolved(image, labels.get(LABEL, ""), _triton(image, labels))
    chosen = choice.choose(models, gpu)
    base, derived = chosen.release.reference(), _name(chosen.release.tag, models)
    why = (*chosen.reasons, addition(models) + f"as {derived}")
    for line in (f"{base}: {why[0]}", *why[1:], *chosen.warnings):
        tell(line)
    wanted = nvidia.fingerprint(building.require(client, base, report).id, models)
    there = building.find(client, derived)
    if there is None or there.labels.get(FINGERPRINT) != wanted:
        order = Order(models, "nvidia", base, building.python_of(client, base), fingerprint=wanted)
        building.build(client, order, derived, report)
    return Resolved(derived, "nvidia", chosen.release.triton)


def _triton(image: str, labels: Mapping[str, str]) -> str | None:
    """One of ours says it; those that were built before that, say what they were built on."""
    if labels.get(TRITON):
        return labels[TRITON]
    if labels.get(LABEL) == "slim":
        return advisories.EMBEDDED
    known = releases.of_reference(image) or releases.of_reference(labels.get(BASE_NAME, ""))
    return known.triton if known else None


def addition(models: Sequence[Served]) -> str:
    """What the steps import, where they import anything."""
    added = " ".join(requirements(models))
    return f"with {added} for the steps around the networks, " if added else ""


def _name(tag: str, models: Sequence[Served]) -> str:
    added = [OTHER.sub("-", requirement.replace("==", "-")) for requirement in requirements(models)]
    return f"{DERIVED}:{'_'.join([tag, *added])[:128]}"
