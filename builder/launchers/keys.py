"""Keys that launchers made up, left for other commands of the same user on the same machine.

A key's file is locked while the server's launcher lives, which the kernel undoes however that ends; a file that nobody
holds is swept away.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.types import Endpoints

SCHEMES = ("grpcs://", "grpc://", "https://", "http://")
LOOPBACK = {"localhost": "127.0.0.1", "[::1]": "127.0.0.1", "0.0.0.0": "127.0.0.1", "": "127.0.0.1"}
"""Names of this machine, all of which are taken for one."""


@contextmanager
def left(endpoints: Endpoints, key: str) -> Iterator[None]:
    """While it lasts, `of` finds the key by each of the addresses; not where this user has no place to write."""
    told = json.dumps({"addresses": [_address(endpoints.grpc), _address(endpoints.http)], "key": key})
    try:
        path = _folder() / secrets.token_hex(8)
        file = _locked(path)
    except (OSError, RuntimeError):  # a container whose user has no home, and may write nothing
        yield
        return
    try:
        os.write(file, told.encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _locked(path: Path) -> int:
    """A new file, locked before there is anything in it, so that nobody takes it for a dead one's. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(path.parent)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def of(url: str) -> str | None:
    """The key of a server on this machine that a launcher of this user made up; None where there is none."""
    wanted, found = _address(url), []
    with suppress(RuntimeError):
        found = _files(_folder())
    for path in found:
        with suppress(OSError, ValueError, KeyError):
            told = json.loads(path.read_bytes())
            if wanted in told["addresses"] and not _is_stale(path):
                return str(told["key"])
    return None


def _folder() -> Path:
    """Of this user alone, and of this machine where the system keeps such a folder. Raises RuntimeError."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        return Path(runtime) / "build-repo" / "keys"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "build-repo" / "keys"


def _address(url: str) -> str:
    scheme = next((scheme for scheme in SCHEMES if url.startswith(scheme)), "")
    host, _, port = url.removeprefix(scheme).partition("/")[0].rpartition(":")
    return f"{LOOPBACK.get(host, host)}:{port}"


def _files(folder: Path) -> list[Path]:
    """Those that this user alone can have written."""
    try:
        told = folder.stat()
        return sorted(folder.iterdir()) if told.st_uid == os.getuid() and not told.st_mode & 0o022 else []
    except OSError:
        return []


def _sweep(folder: Path) -> None:
    for path in _files(folder):
        with suppress(OSError):
            if path.stat().st_size and _is_stale(path):
                path.unlink()


def _is_stale(path: Path) -> bool:
    """Whether nobody holds it. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        # Shared: two that look at once are not taken for the owner.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True
