"""What is asked of a far side. Keys are paths below its root, with slashes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from builder.errors import StoreError
from builder.stores import faults

Told = Callable[[int], None]
"""Is called with the bytes that have moved since; what it raises ends the transfer."""
Done = TypeVar("Done")
PAUSES_S = (0.5, 2.0)
"""Before each attempt but the first, where the reason may pass by itself; drivers try again, too."""


class Stopped(Exception):
    """What ends a transfer that is under way, once another has failed or somebody wants it all to end."""


@dataclass(frozen=True)
class Found:
    """One object, as a listing tells of it."""

    size: int
    tag: str = ""
    """What the store says of the content, such as an ETag; nothing where it says nothing."""


class Far(Protocol):
    """A far side. All but `holds` raise StoreError, and its kinds."""

    @property
    def uri(self) -> str:
        """As the user wrote it, for messages."""
        ...

    def files(self) -> dict[str, Found]:
        """All that there is, by key."""
        ...

    def read(self, key: str) -> bytes | None:
        """None where there is no such object."""
        ...

    def write(self, data: bytes, key: str) -> None:
        """Whole or not at all, as `send`."""
        ...

    def replace(self, data: bytes, key: str, before: bytes | None) -> None:
        """Write what replaces `before`, and StoreError if something else is there meanwhile."""
        ...

    def send(self, path: Path, key: str, told: Told) -> None: ...

    def fetch(self, key: str, path: Path, told: Told) -> None:
        """Raises FileNotFoundError where there is no such object."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """In that order; those that are gone are none the less deleted."""
        ...

    def holds(self, found: Found, key: str, path: Path) -> bool:
        """Whether what was found has surely the file's content; False where that cannot be told without reading it."""
        ...


def persistently(uri: str, doing: str, act: Callable[[], Done]) -> Done:
    """Act, and again where the reason may pass. Raises StoreError; and FileNotFoundError and Stopped as they are."""
    for pause in (*PAUSES_S, None):
        try:
            return act()
        except (StoreError, FileNotFoundError, Stopped):
            raise
        except Exception as error:
            if pause is None or not faults.may_pass(error):
                raise faults.told(uri, doing, error) from None
            time.sleep(pause)
    raise AssertionError


def changed(uri: str) -> StoreError:
    return StoreError(
        f"{uri} was changed by somebody else while this was under way: its lock is another one now; run the same "
        "command again, which sends only what lacks"
    )
