"""Which versions a version policy serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def chosen(policy: Any, versions: Sequence[int]) -> tuple[int, ...]:
    """Of a ModelVersionPolicy, and the versions that are there; the latest one where it says nothing."""
    ordered = sorted(versions)
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return tuple(ordered)
    if kind == "specific":
        return tuple(version for version in ordered if version in policy.specific.versions)
    count = policy.latest.num_versions if kind == "latest" else 1
    return tuple(ordered[-count:]) if count else ()
