"""Which versions a version policy serves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any


def chosen(policy: Any, versions: Sequence[int]) -> tuple[int, ...]:
    """Of a ModelVersionPolicy as the server has filled it in, and the versions that are there.

    A policy that is there and chooses nothing is for all. A version that is named twice is served though it is not
    there: that is what the server makes of it.
    """
    ordered = sorted(versions)
    kind = policy.WhichOneof("policy_choice")
    if kind == "latest":
        count = policy.latest.num_versions
        return tuple(ordered[-count:]) if count else ()
    if kind == "specific":
        named = Counter(policy.specific.versions)
        return tuple(sorted(version for version, times in named.items() if times > 1 or version in ordered))
    return tuple(ordered)
