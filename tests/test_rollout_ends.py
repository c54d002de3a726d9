"""Rollouts to several servers that end early, and those that find another one at work; no server is asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from processes import started
from waiting import until

from builder.errors import RolloutBusy, RolloutError
from builder.lifecycle import exclusive
from builder.lifecycle.queue import Guard, one_after_the_other
from builder.lifecycle.rollout import Result
from builder.repository.staging import staging_root
from builder.triton.connection import Access

SERVERS = [Access(f"host:{port}") for port in (1, 2, 3, 4)]
HOLDING = """
import sys
from pathlib import Path
from builder.lifecycle.exclusive import on_this_machine
from builder.triton.connection import Access
with on_this_machine(Path(sys.argv[1]), Access("host:1")):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize(("parallel", "reached"), [(1, []), (2, ["host:2"])])
def test_after_a_failure_no_server_is_begun(parallel: int, reached: list[str]) -> None:
    """Those that are at work beside it come to their end."""
    failed, begun = threading.Event(), list[str]()

    def bring(access: Access, guard: Guard) -> Result:
        begun.append(access.url)
        until(lambda: len(begun) == parallel)
        if access == SERVERS[0]:
            failed.set()
            raise RolloutError("it is broken")
        failed.wait(30)
        time.sleep(0.5)  # until the other thread has taken note
        guard()
        return Result(access.url)

    told = f"it is broken\nServers with what is published: {', '.join(reached) or 'none'}; not touched: "
    with pytest.raises(RolloutError, match=told):
        one_after_the_other(SERVERS, bring, parallel)
    assert sorted(begun) == ["host:1", *reached]


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_leaves_those_alone_that_are_not_begun() -> None:
    """Those at work see it, and the interrupt goes on when they have ended."""
    begun, undone, both = list[str](), list[str](), threading.Barrier(2)

    def bring(access: Access, guard: Guard) -> Result:
        begun.append(access.url)
        if both.wait(30) == 0:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        try:
            until(lambda: guard())
        except RolloutError:
            undone.append(access.url)
            raise
        return Result(access.url)

    with pytest.raises(KeyboardInterrupt):
        one_after_the_other(SERVERS, bring, 2)
    assert sorted(begun) == sorted(undone) == ["host:1", "host:2"]


def test_another_rollout_is_waited_for_and_leaves_no_file(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    command = [sys.executable, "-c", HOLDING, str(repository)]
    asked: list[str] = []

    def attempt() -> str:
        with exclusive.on_this_machine(repository, SERVERS[0]):
            return "done"

    with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdin
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RolloutBusy, match=rf"at work \(process {other.pid}\)"):
            exclusive.patiently(attempt, 0, lambda: None)

        def end() -> None:
            asked.append("again")
            other.stdin.close()

        assert exclusive.patiently(attempt, 30, end) == "done"
    assert asked
    assert list(staging_root(repository).iterdir()) == []


def test_a_killed_rollout_is_not_waited_for(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    command = [sys.executable, "-c", HOLDING, str(repository)]
    with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        (left,) = staging_root(repository).iterdir()
        other.kill()
        other.wait(30)
    assert left.exists()
    with exclusive.on_this_machine(repository, SERVERS[0]):
        assert left.read_text().split()[0] == str(os.getpid())
        left.write_text(f"{other.pid} 1")  # as of a process that is no more
        with pytest.raises(RolloutBusy, match=r"is at work; wait"), exclusive.on_this_machine(repository, SERVERS[0]):
            pass
    assert not left.exists()
