"""Files that one container may read and nobody else: keys, certificates, and the first process of a plain image."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from builder.containers.nvidia import FIRST_PROCESS
from builder.errors import LaunchError

INSIDE = "/run/build-repo"


class Cabinet:
    """Made when something is put in; cleared with the container."""

    def __init__(self, launch: str) -> None:
        self._folder = _root() / launch

    def put(self, name: str, content: bytes) -> str:
        """Keep a file; its path in the container. Raises LaunchError."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._folder / name
            # A new file each time: one that is there may be open to others, or be a link to somewhere else.
            path.unlink(missing_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as file:
                file.write(content)
        except OSError as error:
            raise LaunchError(f"{self._folder} cannot be written: {error.strerror}") from None
        return f"{INSIDE}/{name}"

    def copy(self, name: str, source: Path) -> str:
        try:
            return self.put(name, source.read_bytes())
        except OSError as error:
            raise LaunchError(f"{source} cannot be read: {error.strerror}") from None

    def first_process(self) -> str:
        """What drains the server of an image that build-repo did not make."""
        entry, *others = (self.copy(file.name, file) for file in FIRST_PROCESS)
        del others  # beside it
        return entry

    def mounts(self, user: str) -> list[Any]:
        """Docker's mount of the folder, readable by `user` (UID:GID); an empty list if nothing was put in."""
        from docker.types import Mount

        if not self._folder.exists():
            return []
        # Root's own server runs as another user, who could not read what only root may.
        if os.getuid() == 0:
            uid, gid = map(int, user.split(":"))
            for path in (self._folder, *self._folder.iterdir()):
                os.chown(path, uid, gid)
        return [Mount(INSIDE, str(self._folder), type="bind", read_only=True)]

    def clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _root() -> Path:
    """Of this user alone; it stays when the machine restarts, as detached containers do."""
    # Not the folder for temporary files, which is emptied when the machine starts.
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "build-repo" / "containers"
