"""What is known of networks before they are built."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from builder import networks
from builder.errors import NetworkError
from builder.types import NetworkFacts


def network_facts(names: Sequence[str]) -> list[NetworkFacts]:
    """The articles' table: what is published of each. Raises NetworkError."""
    unknown = [name for name in names if not networks.is_known(name)]
    if unknown:
        raise NetworkError(f"nothing is published of {', '.join(unknown)}; see `build-repo networks`")
    return [networks.find(name).facts(name) for name in names]


def facts_of(pattern: str | None) -> list[NetworkFacts]:
    """Of all networks that are listed, or of those that a shell's pattern fits. Raises NetworkError."""
    if pattern is None:
        return [networks.find(name).facts(name) for name in networks.all_names()]
    if source := networks.source_of(pattern):
        return source.listed(pattern)
    found = fnmatch.filter(networks.all_names(), pattern)
    if not found:
        raise NetworkError(f"no network is called {pattern!r}; `build-repo networks` lists them")
    return [networks.find(name).facts(name) for name in found]
