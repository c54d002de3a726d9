"""`python killed_rollout.py REPOSITORY URL`: rollouts that are killed at a call to the server.

A line `NUMBER WHEN` on standard input starts one, which is killed at that call, and is answered with its exit status,
or 0 if it did not come to so many. WHEN is `before`, `during` or `after`. By HTTP: each is a fork of this process,
whose imports it need not make again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from builder.lifecycle.rollout import RolloutOptions, roll_out
from builder.triton.connection import Access, connected

CHANGES = ("load_model", "unload_model")
MEANWHILE_S = 0.05


class Counting:
    """A connection that ends this process."""

    def __init__(self, connection: Any, number: int, when: str) -> None:
        self._connection, self._left, self._when = connection, number, when

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connection, name)
        return self._counted(found) if name in CHANGES else found

    def _counted(self, method: Any) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left:
                return method(*args, **kwargs)
            if self._when == "during":
                threading.Thread(target=method, args=args, kwargs=kwargs, daemon=True).start()
                time.sleep(MEANWHILE_S)
            elif self._when == "after":
                method(*args, **kwargs)
            return os.kill(os.getpid(), signal.SIGKILL)

        return called


def main() -> None:
    repository, access = Path(sys.argv[1]), Access(sys.argv[2])
    connected(access).server_version()
    for line in sys.stdin:
        number, when = line.split()
        child = os.fork()
        if not child:
            run(repository, access, int(number), when)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def run(repository: Path, access: Access, number: int, when: str) -> None:
    options = RolloutOptions(timeout=60)
    roll_out(repository, [access], options, connect=lambda where: Counting(connected(where), number, when))


main()
