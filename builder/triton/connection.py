"""How a running Triton is reached for the control of its models: by gRPC or by HTTP, the same calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Access:
    """Where a server is, and what lets its administrator in."""

    url: str
    """HOST:PORT of gRPC, or grpcs://, http://, https://HOST:PORT, as clients take it."""
    admin_key: str | None = field(default=None, repr=False)
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
