"""A push or a pull that dies at its n-th rename, for each n in turn: of file:// sides, each object is one rename.

    python stores_killing.py push|pull REPOSITORY FOLDER

Printed, as JSON: what one model answers on the side that changes: before, after each death, after the run behind it,
and after the one that was let through. Of a push that is what a pull of that moment would bring.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from killing import MOST, kill_at
from wholeness import answers

from builder.repository import layout
from builder.stores import places
from builder.stores.pull import PullOptions, pull
from builder.stores.push import PushOptions, push
from builder.triton import model_config

MODEL = "m"


def pushed(repository: Path, folder: Path) -> None:
    with places.opened(f"file://{folder}", True) as far:
        push(repository, far, PushOptions())


def pulled(folder: Path, repository: Path) -> None:
    with places.opened(f"file://{folder}", False) as far:
        pull(repository, far, PullOptions())


def dies(act: Callable[[], None], changing: Path, fatal: int) -> bool:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            kill_at(fatal, str(changing))
            act()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"it ended with status {status}"
    return status != 0


def answers_there(folder: Path) -> str:
    """What a pull of now brings; and a server that reads the folder straight finds all that the configs name."""
    require_loadable(folder)
    with tempfile.TemporaryDirectory(dir=folder.parent) as empty:
        pulled(folder, Path(empty) / "repository")
        return answers(Path(empty) / "repository", MODEL)


def require_loadable(folder: Path) -> None:
    for config in folder.glob(f"*/{layout.CONFIG}"):
        model = model_config.read(config)
        for version in model.version_policy.specific.versions:
            assert any((config.parent / str(version)).iterdir()), (config, version)
            assert (config.parent / str(version) / model.default_model_filename).exists(), (config, version)
        for call in model.ensemble_scheduling.step:
            called = model_config.read(folder / call.model_name / layout.CONFIG)
            assert call.model_version in called.version_policy.specific.versions, (config, call.model_name)


def states(act: Callable[[], None], changing: Path, look: Callable[[Path], str]) -> list[str]:
    """From the same beginning each time; what died is then run again, and must have done it all."""
    kept = changing.parent / "kept"
    shutil.copytree(changing, kept)
    found = [look(changing)]
    for fatal in range(1, MOST):
        was_killed = dies(act, changing, fatal)
        found.append(look(changing))
        if not was_killed:
            return found
        act()
        found.append(f"again: {look(changing)}")
        shutil.rmtree(changing)
        shutil.copytree(kept, changing)
    raise AssertionError(f"it was killed {MOST} times")


if __name__ == "__main__":
    kind, repository, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if kind == "push":
        print(json.dumps(states(lambda: pushed(repository, folder), folder, answers_there)))
    else:
        print(json.dumps(states(lambda: pulled(folder, repository), repository, lambda path: answers(path, MODEL))))
