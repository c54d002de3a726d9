"""Which version of what clients ask a running server has."""

from __future__ import annotations

from builder.lifecycle.state import look, role_of
from builder.repository import layout
from builder.triton.connection import Access, connected


def serving(access: Access) -> dict[str, int]:
    """By the name of each model of ours that clients ask. Raises ServerAway, ServerOdd."""
    connection = connected(access)
    try:
        seen = look(connection)
    finally:
        connection.close()
    asked = [name for name, config in seen.configs.items() if role_of(config) in layout.SERVED_ROLES]
    return {name: version for name in asked if (version := seen.served(name)) is not None}
