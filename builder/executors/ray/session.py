"""An existing Ray cluster: connected to, asked what it has, given tasks, and left alone again."""

from __future__ import annotations

import io
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

from builder.errors import BuilderError, ClusterError
from builder.executors.ray.options import Options
from builder.executors.ray.tasks import Node, RayTask, described, missing
from builder.executors.ray.worker import Built, Job
from builder.machine import signals
from builder.util.reasons import reason

POLL_S = 1.0
CONNECT_S = 5.0
CANCEL_S = 10.0
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

Work = Callable[[Job], Built | BuilderError]


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The ray module, connected. Raises ClusterError."""
    ray = _imported()
    _require_listening(address)
    # It prints what happens to nodes, whoever reads the output.
    with redirect_stdout(io.StringIO()):
        _connect(ray, address)
        try:
            yield ray
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    try:
        with _own_signals():
            ray.init(address=address, logging_level=logging.CRITICAL, log_to_driver=False)
    except signals.Ended:
        raise
    # Where something else listens there, Ray tries for two minutes, and ends the process then.
    except (ConnectionError, RuntimeError, ValueError, OSError, SystemExit) as error:
        raise ClusterError(
            f"no Ray cluster can be used at {address}: {reason(error)}. Start one with `ray start`, and name it with "
            "--ray-address HOST:PORT"
        ) from None


def _imported() -> Any:
    """Ray, which reports its use to its makers and writes much, unless it is told not to."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        with _own_signals():
            import ray
    except ImportError:
        raise ClusterError("Ray is not installed; run: pip install 'triton-build-repo[ray]'") from None
    return ray


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray sets handlers of its own, which would end a build with other exit codes."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _require_listening(address: str) -> None:
    """Raise ClusterError at once where nothing answers; Ray would try for two minutes."""
    host, _, port = address.rpartition(":")
    if "://" in address or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except OSError as error:
        raise ClusterError(
            f"no Ray cluster answers at {address}: {error}. Start one with `ray start --head`, or correct --ray-address"
        ) from None


def nodes(ray: Any) -> list[Node]:
    """Those that are alive."""
    return [
        Node(node["NodeID"], node["NodeManagerAddress"], dict(node["Resources"]))
        for node in ray.nodes()
        if node["Alive"]
    ]


@dataclass
class Running:
    """Tasks on the cluster, and which of them no node could run any more, since when."""

    ray: Any
    options: Options
    pending: dict[Any, RayTask] = field(default_factory=dict)
    homeless: dict[Any, float] = field(default_factory=dict)

    def submit(self, work: Work, task: RayTask, job: Job) -> None:
        asked: dict[str, Any] = {"num_cpus": task.cpus, "max_retries": self.options.retries, "name": task.name}
        if task.accelerator:
            asked |= {"num_gpus": 1, "accelerator_type": task.accelerator}
        # A process a task: frameworks keep memory, and some a GPU, for as long as theirs lives.
        self.pending[self.ray.remote(max_calls=1)(work).options(**asked).remote(job)] = task

    def results(self) -> Iterator[tuple[RayTask, Built | BuilderError]]:
        """As they come, until all tasks have ended."""
        while self.pending:
            done, _ = self.ray.wait(list(self.pending), timeout=POLL_S)
            for reference in done:
                task = self.pending.pop(reference)
                yield task, self._result(reference, task)
            yield from self._given_up()

    def close(self) -> None:
        """End what has not ended."""
        self._cancel(list(self.pending))

    def _result(self, reference: Any, task: RayTask) -> Built | BuilderError:
        try:
            result: Built | BuilderError = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            return ClusterError(
                f"{task.name} ended in an error of its node: {_first_line(error.cause)}; is build-repo installed "
                "there, in the version that is here?"
            )
        except self.ray.exceptions.RayError as error:
            return ClusterError(
                f"{task.name}: its node or process died {self.options.retries + 1} times, the last time with "
                f"{type(error).__name__}: {_first_line(error)}"
            )
        return result

    def _given_up(self) -> Iterator[tuple[RayTask, BuilderError]]:
        """Tasks that have waited too long for a node that could run them."""
        there = nodes(self.ray)
        for reference, task in list(self.pending.items()):
            if any(task.fits(node) for node in there):
                self.homeless.pop(reference, None)
            elif time.monotonic() - self.homeless.setdefault(reference, time.monotonic()) > self.options.patience_s:
                self._cancel([reference])
                del self.pending[reference]
                gone = f"the nodes that could build {task.name} are gone: {missing(task)}; {described(there)}"
                yield task, ClusterError(gone)

    def _cancel(self, references: Sequence[Any]) -> None:
        for reference in references:
            self.ray.cancel(reference, force=True)
        if references:
            self.ray.wait(list(references), num_returns=len(references), timeout=CANCEL_S)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
