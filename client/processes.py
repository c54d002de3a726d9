"""What a fork leaves of a client. The child has a copy of the memory, but none of the threads, and no right to the
connections and the shared memory: two processes that use the same ones get each other's answers."""

from __future__ import annotations

import ctypes
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from client.errors import Forked

Made = TypeVar("Made")
Process = tuple[int, int]
GRPC = "grpc._cython.cygrpc"
GRPC_HANDLERS = "GRPC_ENABLE_FORK_SUPPORT"


class OfProcess(Generic[Made]):
    """One value for each process, made when it first asks, without locks: the parent's may be held for ever."""

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._made: dict[Process, Made] = {}
        _all.add(self)

    def get(self) -> Made:
        process = here()
        # Of two threads that come first, one's value is kept; values open nothing before they are used.
        return self._made[process] if process in self._made else self._made.setdefault(process, self._make())

    def values(self) -> list[Made]:
        return list(self._made.values())


_all: weakref.WeakSet[OfProcess[Any]] = weakref.WeakSet()
_forks = 0
_grpc_was_used = False


def here() -> Process:
    """This process, and no other: how often it was forked tells it from an ancestor whose number came up again."""
    return os.getpid(), _forks


def grpc_was_used() -> bool:
    """Whether an ancestor may have used gRPC before it forked this process, which gRPC's library does not survive.

    It shares the ancestor's poller then, and calls hang, or end either process: with grpcio 1.85 one fork in some
    hundreds, where calls were in flight. Only that it was loaded can be seen.
    """
    return _grpc_was_used


def leave_forks_alone() -> None:
    """Keep gRPC's fork handlers out of this process, unless its environment says otherwise; before gRPC is imported.

    They are of no use here: children's calls do not go through what they inherit. And they cost: a fork that comes
    between two steps of a call stops and restarts the poller, and the parent may wait for ever for an answer that has
    come (grpcio 1.85: one call in some thousands of forks).
    """
    if GRPC not in sys.modules:
        os.environ.setdefault(GRPC_HANDLERS, "0")


def refuse_copy(owner: Process, what: str) -> None:
    """Raises Forked in a child of the process that `what` belongs to."""
    if here() != owner:
        raise Forked(f"{what} was begun before this process was forked, and goes on in its parent alone; begin anew")


def _in_child() -> None:
    """What the parent has open is never finalised here: that would close its connections under its feet."""
    global _forks, _grpc_was_used
    _forks += 1
    _grpc_was_used |= GRPC in sys.modules
    for each in list(_all):
        for value in each.values():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


os.register_at_fork(after_in_child=_in_child)
