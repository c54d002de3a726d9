"""A process that dies at its n-th rename into the repository or out of it, as in a power cut, for each n in turn.

    python killing.py REPOSITORY CHANGES

CHANGES are `publish_model`'s, as JSON; with `roll_back` or `prune` among them, what these are to do instead. Printed,
as JSON: what the model of that name answered before the first rename, after each death, and after the run that was let
through. The interpreter's audit events tell of renames.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from published import publish_model
from wholeness import answers

from builder.repository.prune import Wish, prune
from builder.repository.rollback import roll_back

MOST = 40


def kill_at(fatal: int, repository: str) -> None:
    """From here on."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "os.rename" and any(f"{repository}/" in f"{path}/" for path in arguments[:2]):
            count += 1
            if count == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def is_killed(repository: Path, changes: dict[str, Any], fatal: int) -> bool:
    """In a child of this process, which is not imported anew."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            kill_at(fatal, str(repository))
            act(repository, **changes)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"the publisher ended with status {status}"
    return status != 0


def act(repository: Path, **changes: Any) -> None:
    if "roll_back" in changes:
        roll_back(repository, "m", **changes["roll_back"])
    elif "prune" in changes:
        prune(repository, Wish(**changes["prune"], consent=True), 0)
    else:
        publish_model(repository, **changes)


def states(repository: Path, changes: dict[str, Any]) -> list[str]:
    name = changes.get("name", "m")
    found = [answers(repository, name)] if repository.is_dir() else ["nothing"]
    for fatal in range(1, MOST):
        was_killed = is_killed(repository, changes, fatal)
        found.append(answers(repository, name))
        if not was_killed:
            return found
    raise AssertionError(f"it was killed {MOST} times")


if __name__ == "__main__":
    print(json.dumps(states(Path(sys.argv[1]), json.loads(sys.argv[2]))))
