"""Several models at a time, each in a process of its own, with its share of the cores."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from builder.build.entry import Entry
from builder.build.run import Outcome, attempt
from builder.errors import BuilderError, WorkerError
from builder.machine import signals
from builder.machine.cores import granted_cores
from builder.types import BuiltModel, Report

GRACE_S = 20
"""How long a process may take to clean up once it is told to end; it cannot while native code runs."""
POLL_S = 0.2


@dataclass(frozen=True)
class Worker:
    number: int
    """Of its entry."""
    process: SpawnProcess
    inbox: Connection


def build_in_processes(
    entries: Sequence[Entry], repository: Path, jobs: int, report: Report = lambda _: None
) -> Outcome:
    """As `build_repository`, `jobs` models at a time. One that fails or dies leaves the others alone."""
    share = max(1, granted_cores() // max(1, min(jobs, len(entries))))
    waiting = deque(enumerate(replace(entry, build_cores=share) for entry in entries))
    running: dict[Connection, Worker] = {}
    results: dict[int, BuiltModel | BuilderError] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                with signals.held():  # a worker that is started is one that is ended
                    worker = _start(*waiting.popleft(), repository)
                    running[worker.inbox] = worker
            for inbox in wait(list(running)):
                worker = running[inbox]  # type: ignore[index]
                message = _received(worker, entries[worker.number].name)
                if isinstance(message, str):
                    report(message)
                else:
                    results[worker.number] = message
                    del running[worker.inbox]
                    _finish(worker)
    finally:
        _end(list(running.values()))
    outcome = Outcome()
    for number, entry in enumerate(entries):
        outcome.add(entry.name, results[number])
    return outcome


def _start(number: int, entry: Entry, repository: Path) -> Worker:
    context = get_context("spawn")
    inbox, outbox = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(entry, repository, outbox), name=f"build of {entry.name}")
    with _interrupts_held_back():
        process.start()
    outbox.close()
    return Worker(number, process, inbox)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Ctrl-C goes to all processes of the terminal; those that are started now leave it to this one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(entry: Entry, repository: Path, outbox: Connection) -> None:
    """In the new process."""
    # Not left blocked: while one is pending, SIGTERM does not wake the process (seen).
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signals.listen((signal.SIGTERM,))
    os.environ["OMP_NUM_THREADS"] = str(entry.build_threads)  # before the frameworks are imported

    def tell(message: Any) -> None:
        try:
            outbox.send(message)
        except BrokenPipeError:  # who started this has gone
            sys.exit(1)

    tell(attempt(entry, repository, tell))


def _received(worker: Worker, name: str) -> str | BuiltModel | BuilderError:
    """A line for the report, or the result. A process that ends without one has the error that says so."""
    try:
        message: str | BuiltModel | BuilderError = worker.inbox.recv()
    except (EOFError, OSError):
        worker.process.join()
        return WorkerError(f"{name}: {_last_words(worker.process.exitcode or 0)}")
    return message


def _last_words(status: int) -> str:
    if status == -signal.SIGKILL:
        return (
            "the process that built it was killed (SIGKILL), as the system does when memory runs out; build it with "
            "fewer --jobs, or where there is more memory"
        )
    if status < 0:
        return f"the process that built it was ended by {signal.Signals(-status).name}; build it again"
    return f"the process that built it ended by itself with status {status}; its last words are above"


def _finish(worker: Worker) -> None:
    worker.inbox.close()
    worker.process.join()
    worker.process.close()


def _end(workers: Sequence[Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        deadline = time.monotonic() + GRACE_S
        while worker.process.is_alive() and time.monotonic() < deadline and not signals.is_urgent():
            worker.process.join(POLL_S)
        if worker.process.is_alive():
            worker.process.kill()
        _finish(worker)
