"""One rollout at a time from a repository to a server, as far as this machine knows. `marker` is for the others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from builder.errors import RolloutBusy
from builder.repository.staging import staging_root
from builder.triton.connection import Access


@contextmanager
def on_this_machine(repository: Path, access: Access) -> Iterator[None]:
    """Raises RolloutBusy. A repository beside which nothing can be written is left to the server's marker."""
    root = staging_root(repository)
    name = f"rollout-{hashlib.sha256(access.address.encode()).hexdigest()[:12]}"
    with suppress(OSError):
        root.mkdir(exist_ok=True)
    lock, owner = FileLock(root / f"{name}.lock"), root / f"{name}.pid"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RolloutBusy(
            f"another rollout of {repository} to {access.url} is at work{_whose(owner)}; wait for it, or end it, and "
            "run the same command again"
        ) from None
    except OSError:
        yield
        return
    try:
        with suppress(OSError):
            owner.write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        lock.release()


def _whose(owner: Path) -> str:
    try:
        return f" (process {int(owner.read_text(encoding='utf-8'))})"
    except (OSError, ValueError):
        return ""
