"""Rollouts to real servers that are asked all the while."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, product
from pathlib import Path

import processes
import psutil
import pytest
from explicit_servers import Running, serving
from swapping import (
    MODEL,
    SABOTAGE,
    SOUND,
    Load,
    Sabotage,
    add,
    asked,
    built,
    hanging_step,
    let_go,
    memory,
    p99,
    publish,
)
from waiting import until

from builder.errors import RolloutError
from builder.lifecycle import trial
from builder.lifecycle.rollout import RolloutOptions, roll_out
from builder.lifecycle.serving import serving as served
from builder.lifecycle.state import look
from builder.triton.connection import Access, connected

IMPATIENT = RolloutOptions(timeout=2)
PATIENT = RolloutOptions(timeout=60)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sound versions, built once."""
    return built(tmp_path_factory.mktemp("versions"))


@pytest.fixture
def repository(versions: Path, tmp_path: Path) -> Path:
    """Of one's own, in which the first version is published."""
    shutil.copytree(versions, tmp_path / "repository")
    publish(tmp_path / "repository", 1)
    return tmp_path / "repository"


@pytest.fixture
def server(repository: Path, tmp_path: Path) -> Iterator[Running]:
    with serving(repository, tmp_path) as running:
        yield running


def rolled(repository: Path, url: str, number: int, options: RolloutOptions = PATIENT) -> None:
    publish(repository, number)
    (result,) = roll_out(repository, [Access(url)], options)
    assert [(change.model, change.after) for change in result.changes] == [(MODEL, number)]


@dataclass
class Swaps:
    """What was seen of them."""

    spans: list[tuple[float, float]] = field(default_factory=list)
    """When each of the sound ones began and ended."""
    memory: dict[int, int] = field(default_factory=dict)
    """Bytes, after so many."""


def swap(repository: Path, server: Running, load: Load, swaps: int, sabotaged: int, pause: float = 0) -> Swaps:
    """So many swaps, each to a new version, the sabotaged ones among them; after each, what serves is what should."""
    now, seen = 1, Swaps()
    bad = {round((place + 0.5) * swaps / sabotaged) for place in range(sabotaged)}
    for turn in range(swaps):
        url, number, began = (server.grpc, server.http)[turn % 2], 100 + turn, time.monotonic()
        if turn in bad:
            refused(repository, url, number, now, SABOTAGE[sorted(bad).index(turn) % len(SABOTAGE)])
        else:
            now = fresh(repository, load, number)
            rolled(repository, url, now)
            seen.spans.append((began, time.monotonic()))
        assert served(Access(url)) == {MODEL: now}
        settled(server)
        time.sleep(pause)
        seen.memory[turn + 1] = memory(server.pid)
    return seen


def fresh(repository: Path, load: Load, number: int) -> int:
    """A sound version, and another one than that before it."""
    add(repository, number, SOUND[number % len(SOUND)])
    load.expect(repository, number)
    return number


def refused(repository: Path, url: str, number: int, now: int, kind: tuple[Sabotage, str]) -> None:
    sabotage, said = kind
    sabotage(repository, number, now)
    publish(repository, number)
    with pytest.raises(RolloutError, match=f"(?s){said}.*Of {MODEL}, {now} serves on"):
        roll_out(repository, [Access(url)], IMPATIENT if sabotage is hanging_step else PATIENT)
    let_go(repository, number)


def settled(server: Running) -> None:
    """Back when nothing is on its way, and each worker that is left has its model."""
    connection = connected(Access(server.grpc))
    until(lambda: {row.state for row in connection.repository_index()} <= {"READY", "UNAVAILABLE"})
    seen = look(connection)
    workers = sum(len(seen.versions(name)) for name, config in seen.configs.items() if config.platform != "ensemble")
    until(lambda: len(psutil.Process(server.pid).children()) == workers)
    connection.close()


def test_no_request_fails_while_versions_are_swapped(repository: Path, server: Running) -> None:
    """It takes half a minute: eight swaps, one of each kind of sabotage among them, three seconds each."""
    with asked(repository, [server.grpc, server.http]) as load:
        swap(repository, server, load, 8, 4)
    assert load.failed == []
    assert load.wrong == []
    assert len(load.seen) == 5


@pytest.mark.slow
def test_fifty_swaps_fail_nothing_and_leave_no_memory_behind(repository: Path, server: Running) -> None:
    """It takes minutes: fifty swaps, twenty of them sabotaged, and a second of rest after each."""
    with asked(repository, [server.grpc, server.http]) as load:
        seen = swap(repository, server, load, 50, 20, pause=1)
    assert load.failed == []
    assert load.wrong == []
    during = [took for began, took in load.times if any(first <= began <= last for first, last in seen.spans)]
    resting = [took for began, took in load.times if not any(first <= began <= last for first, last in seen.spans)]
    print(f"{len(load.times)} answers; p99 during a swap over p99 between: {p99(during) / p99(resting):.2f}")
    print("memory:", {turn: f"{size / 2**20:.0f} MB" for turn, size in seen.memory.items() if turn % 5 == 0})
    assert seen.memory[50] <= 1.05 * seen.memory[5]


MOMENTS = ("before", "during", "after")


def killed_everywhere(repository: Path, server: Running, load: Load, kills: Iterable[tuple[int, str]]) -> int:
    """Kill rollouts at these calls, each followed by the same command; how many were killed."""
    numbers, found = count(100), 0
    command = [sys.executable, Path(__file__).with_name("killed_rollout.py"), repository, server.http]
    with processes.started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for number, moment in kills:
            now = fresh(repository, load, next(numbers))
            publish(repository, now)
            print(number, moment, file=process.stdin, flush=True)
            status = int(process.stdout.readline())
            assert status in (0, -signal.SIGKILL), (number, moment)
            found += status != 0
            roll_out(repository, [Access(server.grpc)], PATIENT)
            assert served(Access(server.grpc)) == {MODEL: now}, (number, moment)
            settled(server)
            seen = look(connected(Access(server.grpc)))
            assert (seen.orphans(), seen.versions(MODEL)) == ({}, {now}), (number, moment)
            assert not connected(Access(server.grpc)).is_model_ready(trial.name_of(MODEL))
    return found


def test_a_rollout_that_is_killed_is_finished_by_the_same_command(repository: Path, server: Running) -> None:
    """It takes half a minute: it is killed at each call that changes something, at one of three moments."""
    kills = [(number, MOMENTS[number % 3]) for number in range(1, 12)]
    with asked(repository, [server.grpc, server.http]) as load:
        assert killed_everywhere(repository, server, load, kills) >= 9
    assert (load.failed, load.wrong) == ([], [])


@pytest.mark.slow
def test_a_rollout_that_is_killed_at_any_moment_is_finished(repository: Path, server: Running) -> None:
    """It takes minutes: each call, and each of three moments."""
    with asked(repository, [server.grpc, server.http]) as load:
        assert killed_everywhere(repository, server, load, product(range(1, 12), MOMENTS)) >= 27
    assert (load.failed, load.wrong) == ([], [])
