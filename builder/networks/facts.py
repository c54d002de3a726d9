"""What is known of networks before they are built."""

from __future__ import annotations

from collections.abc import Sequence

from builder import networks
from builder.errors import NetworkError
from builder.types import NetworkFacts


def network_facts(names: Sequence[str]) -> list[NetworkFacts]:
    """The articles' table: what is published of each. Raises NetworkError."""
    unknown = [name for name in names if name not in networks.all_names()]
    if unknown:
        raise NetworkError(f"nothing is published of {', '.join(unknown)}; see `build-repo networks`")
    return [networks.find(name).facts(name) for name in names]
