"""What is published beside a server, which goes on with what it loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.errors import ConfigError
from builder.repository import layout
from builder.triton import model_config
from builder.triton.control import NO_ANSWER

LOOK_SECONDS = 2.0
MOST_NAMED = 5
WORDS = tuple(f'"{role}"'.encode() for role in layout.SERVED_ROLES)
"""One of them is in the config of what clients ask, and in few others."""

Published = dict[str, tuple[int, ...]]
"""The versions that are served of each model that clients ask, by its name."""
Serves = Callable[[str], tuple[int, ...]]
"""The versions of a model that a server serves now, by the model's name. May raise OSError."""
Stamps = dict[str, tuple[int, int]]


def published(repository: Path) -> Published:
    """What a server that starts now would serve."""
    return {path.parent.name: versions for path in _configs(repository) if (versions := _versions(path))}


def _versions(path: Path) -> tuple[int, ...]:
    """The served versions of a model that clients ask; empty for a step or network, and for a model of others."""
    try:
        content = path.read_bytes()
        if not any(word in content for word in WORDS):  # parsing takes a millisecond
            return ()
        found = model_config.read(path)
    except (OSError, ConfigError):
        return ()
    is_ours = found.parameters[layout.ROLE].string_value in layout.SERVED_ROLES
    return tuple(found.version_policy.specific.versions) if is_ours else ()


def _configs(repository: Path) -> list[Path]:
    return sorted(repository.glob(f"*/{layout.CONFIG}"))


@contextmanager
def watched(
    repository: Path,
    served: Published,
    tell: Callable[[str], None],
    hint: str,
    serves: Serves | None = None,
    seconds: float = LOOK_SECONDS,
) -> Iterator[None]:
    """While it lasts, `tell` in a line what is published in the repository that is not among what is served.

    `hint` says how that gets to the server; `serves`, where it is given, what the server has by now.
    """
    ended = threading.Event()
    watch = _Watch(repository, served, serves, lambda difference: tell(f"published meanwhile: {difference}; {hint}"))
    thread = threading.Thread(target=watch.attend, args=(seconds, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(seconds)


class _Watch:
    def __init__(self, repository: Path, served: Published, serves: Serves | None, tell: Callable[[str], None]) -> None:
        self._repository, self._served, self._serves, self._tell = repository, served, serves, tell
        self._said = served

    def attend(self, seconds: float, ended: threading.Event) -> None:
        """Tell each state once that holds for two looks: a build may be publishing."""
        read, before = Stamps(), _stamps(self._repository)
        while not ended.wait(seconds):
            now = _stamps(self._repository)
            if now == before != read:  # nothing has changed since the last look, but something since it was read
                read = now
                self._compare(published(self._repository))
            before = now

    def _compare(self, there: Published) -> None:
        served = self._now(there)
        if there not in (self._said, served):
            self._tell(_difference(served, there))
        self._said = there

    def _now(self, there: Published) -> Published:
        """What is served, which a rollout may have changed."""
        if self._serves is None:
            return self._served
        try:
            found = {name: self._serves(name)[-1:] for name in {**self._served, **there}}
        except NO_ANSWER:  # it is busy, or ends
            return self._served
        return {name: versions for name, versions in found.items() if versions}


def _difference(served: Published, there: Published) -> str:
    """What changed, in words such as `digits 2 (served: 1), new: alexnet, gone: vgg16`."""
    changed = [
        f"{name} {_numbers(there[name])} (served: {_numbers(served[name])})"
        for name in there
        if name in served and there[name] != served[name]
    ]
    changed += [f"new: {name}" for name in there if name not in served]
    changed += [f"gone: {name}" for name in served if name not in there]
    more = len(changed) - MOST_NAMED
    return ", ".join(changed[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _numbers(versions: tuple[int, ...]) -> str:
    return " and ".join(map(str, versions))


def _stamps(repository: Path) -> Stamps:
    found: Stamps = {}
    for path in _configs(repository):
        try:
            told = path.stat()
        except OSError:
            continue
        # A build renames a new file into place: the inode differs even within one tick of the clock.
        found[path.parent.name] = (told.st_ino, told.st_mtime_ns)
    return found
