"""A worker process of the server dies: its model is brought back, and what cannot be brought back is told."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rebuilding
from conftest import ANY_PORTS, build
from processes import started
from waiting import until

from builder.errors import ServerEnded
from builder.launchers import LAUNCHERS, workers
from builder.launchers.embedded import EmbeddedServer
from builder.launchers.workers import MOST_DEATHS, NotRevived, Nurse, Watch
from client import Client, ClientError

Look = Callable[[], workers.Running]


def looks(*seen: dict[str, set[int]]) -> Look:
    """Each of them once, and then the last for ever."""
    left = list(seen)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def test_what_is_missing_twice_has_fallen() -> None:
    all_there = {"a": {1, 2}, "b": {3}}
    watch = Watch(looks(all_there, {"a": {1}, "b": {3}}, {"a": {1, 2}}, {"a": {1, 2}}, {"a": {1, 2, 4}, "b": {5}}))
    assert [watch.fallen() for _ in range(4)] == [set(), set(), {"b"}, set()]


def test_a_worker_that_died_before_anybody_looked_is_missed() -> None:
    watch = Watch(looks({"a/1": {1, 2}}), served=lambda: ["a/1", "b/1"])
    assert [watch.fallen() for _ in range(2)] == [set(), {"b"}]


def test_versions_that_come_and_go_have_not_died() -> None:
    """A rollout: the second comes beside the first, which goes; while one is loaded anew it has twice its workers."""
    right: dict[str, int | None] = {"a/1": 1, "a/2": 1}
    seen: dict[str, set[int]] = {"a/1": {1}}
    watch = Watch(lambda: seen, right.get)

    def fallen() -> list[set[str]]:
        return [watch.fallen() for _ in range(3)]

    seen |= {"a/2": {2, 3}}
    assert fallen() == [set()] * 3
    seen["a/2"] = {3}
    assert fallen() == [set()] * 3
    right["a/1"] = 0
    del seen["a/1"]
    assert fallen() == [set()] * 3
    right["a/2"], seen["a/2"] = None, set()  # something of the model is being loaded: nobody can say
    assert fallen() == [set()] * 3
    assert watch.lacking("a") == {"2"}
    right["a/2"] = 1
    assert fallen() == [{"a"}] * 3


Given = tuple[str, bool]


def nursed(look: Look, revive: Callable[[str], None]) -> tuple[Nurse, queue.Queue[Given], queue.Queue[str]]:
    given_up: queue.Queue[Given] = queue.Queue()
    said: queue.Queue[str] = queue.Queue()

    def give_up(reason: str, is_stuck: bool) -> None:
        given_up.put((reason, is_stuck))

    return Nurse(Watch(look), revive, give_up, said.put, interval=0.005), given_up, said


def test_a_model_that_fell_is_revived_once() -> None:
    there = {"a": {1}}
    revived: queue.Queue[str] = queue.Queue()

    def revive(model: str) -> None:
        there["a"] = {2}
        revived.put(model)

    nurse, given_up, said = nursed(lambda: there, revive)
    there["a"] = set()
    assert revived.get(timeout=30) == "a"
    assert "the worker of a died" in said.get(timeout=30)
    assert said.get(timeout=30) == "a is served again"
    nurse.leave()
    assert revived.empty()
    assert given_up.empty()


@pytest.mark.parametrize("reason", [None, "no memory"])
def test_a_model_that_falls_again_and_again_is_given_up(reason: str | None) -> None:
    revived: list[str] = []

    def revive(model: str) -> None:
        revived.append(model)
        if reason:
            raise NotRevived(reason)

    nurse, given_up, said = nursed(looks({"a": {1}}, {}), revive)
    assert given_up.get(timeout=30) == (f"the worker of a died {MOST_DEATHS + 1} times within 300 s", False)
    nurse.leave()
    assert revived == ["a"] * MOST_DEATHS
    assert [line for line in said.queue if reason and reason in line] == (
        [f"a could not be loaded again: {reason}"] * MOST_DEATHS if reason else []
    )


def test_a_worker_that_dies_while_its_model_is_loaded_is_given_up_at_once() -> None:
    """The server waits for it for minutes. The old workers of another instance end meanwhile, which is no death."""
    there = {"a": {1, 2}}
    ended = threading.Event()

    def revive(model: str) -> None:
        del model
        for now in ({1}, set(), {3}, {3, 4}, {4}, set()):
            there["a"] = now
            time.sleep(0.05)
        ended.wait(60)

    nurse, given_up, _ = nursed(lambda: dict(there), revive)
    there["a"] = {1}
    assert given_up.get(timeout=30) == ("the worker of a died again while the model was loaded", True)
    ended.set()
    nurse.leave()


def test_a_worker_that_was_gone_before_anybody_saw_it_is_given_up() -> None:
    ended = threading.Event()
    given_up: queue.Queue[str] = queue.Queue()

    def give_up(reason: str, is_stuck: bool) -> None:
        given_up.put(f"{reason}, {is_stuck}")

    def revive(model: str) -> None:
        del model
        ended.wait(60)

    nurse = Nurse(Watch(looks({"a": {1}}, {})), revive, give_up, lambda _: None, interval=0.005, absent=0.1)
    assert given_up.get(timeout=30) == "the worker of a died again while the model was loaded, True"
    ended.set()
    nurse.leave()


def test_models_of_other_processes_are_not_counted(tmp_path: Path) -> None:
    """By what /proc shows: a worker, a dead one, a child between fork and exec, and something else."""
    commands = {
        11: ["/x/triton_python_backend_stub", "/models/a b/3/model.py", "shm", "10"],
        12: [],
        13: ["/x/bin/tritonserver", "--model-repository=/models"],
        14: ["/x/triton_python_backend_stub", "/models/c/1/model.onnx", "shm", "10"],
    }
    (tmp_path / "10" / "task" / "10").mkdir(parents=True)
    (tmp_path / "10" / "task" / "10" / "children").write_text("11 12 ")
    (tmp_path / "10" / "task" / "15").mkdir()
    (tmp_path / "10" / "task" / "15" / "children").write_text("13 14 16 ")  # 16 is gone
    for number, command in commands.items():
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "cmdline").write_bytes(b"".join(part.encode() + b"\0" for part in command))
    assert workers.running(10, tmp_path) == {"a b/3": {11}, "c/1": {14}}
    (tmp_path / "10" / "task" / "17").mkdir()  # a thread that has just ended
    assert workers.running(10, tmp_path) == {"a b/3": {11}, "c/1": {14}}
    assert workers.running(99, tmp_path) == {}


def test_a_worker_that_is_not_listed_is_alive_until_it_is_dead(tmp_path: Path) -> None:
    listed, command = tmp_path / "10" / "task" / "10" / "children", tmp_path / "11" / "cmdline"
    for file in (listed, command):
        file.parent.mkdir(parents=True)
    command.write_bytes(b"/x/triton_python_backend_stub\0/models/a/3/model.py\0")
    listed.write_text("11 ")
    look = workers.Workers(10, tmp_path)
    assert look() == {"a/3": {11}}
    listed.write_text("")
    assert look() == {"a/3": {11}}
    command.write_bytes(b"")  # as of a process that nobody has collected yet
    assert look() == {}
    command.write_bytes(b"/x/triton_python_backend_stub\0/models/a/3/model.py\0")  # another's, of the same number
    assert look() == {}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers")
    build(folder, rebuilding.FIRST)
    return folder / "repository"


@pytest.fixture
def server(repository: Path) -> Iterator[EmbeddedServer]:
    running = LAUNCHERS["embedded"].launch(repository, ANY_PORTS)
    assert isinstance(running, EmbeddedServer)
    yield running
    running.stop()


def kill_worker(launcher: int, model: str) -> set[int]:
    """Of the server below the launcher's guard; who was killed."""
    servers = [server for guard in workers.children(launcher) for server in workers.children(guard)]
    living = [
        found for server in servers for version, found in workers.running(server).items() if f"{model}/" in version
    ]
    found = set().union(*living)
    for worker in found:
        os.kill(worker, signal.SIGKILL)
    return found


def is_ready(http: str, what: str = "") -> bool:
    try:
        with urllib.request.urlopen(f"http://{http}/v2/{what or 'health'}/ready", timeout=10):
            return True
    except OSError:  # it says no, or it is gone
        return False


@pytest.mark.parametrize("role", ["network", "preprocess"])
def test_a_killed_worker_is_brought_back(role: str, server: EmbeddedServer, repository: Path) -> None:
    """Requests come to it all the while; until it is back, the server says that it is not ready."""
    step = "m_onnx" if role == "network" else next(repository.glob("preprocess_*")).name
    with Client(server.endpoints.grpc, retries=0, timeout=30) as client:
        before = client.probabilities([rebuilding.PHOTO], "m")
        until(lambda: kill_worker(os.getpid(), step))  # a look at processes may miss some
        until(lambda: not answers(client, "m"))
        until(lambda: not is_ready(server.endpoints.http) and not is_ready(server.endpoints.http, "models/m"))
        if role == "network":
            assert answers(client, "gone")  # the other model of the same server goes on
        until(lambda: answers(client, "m"), 120)
        until(lambda: is_ready(server.endpoints.http))
        np.testing.assert_array_equal(client.probabilities([rebuilding.PHOTO], "m"), before)


def answers(client: Client, model: str) -> bool:
    try:
        return bool(client.classify(rebuilding.PHOTO, model))
    except ClientError:
        return False


@pytest.mark.parametrize("moment", ["served", "loaded"])
def test_a_server_whose_workers_die_again_and_again_ends(moment: str, repository: Path) -> None:
    """With an exit code of its own, so that systemd, Docker or Kubernetes start it anew; also if it is stuck."""
    command = [sys.executable, "-m", "builder", "serve", "-r", str(repository), "--json"]
    ports = ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]
    with started([*command, *ports], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        ready = json.loads(process.stdout.readline())

        def is_over() -> bool:
            if moment == "loaded" or is_ready(ready["http"]):
                kill_worker(process.pid, "m_onnx")
            return process.poll() is not None

        until(is_over, seconds=240, pause=0.3)
        _, said = process.communicate(timeout=60)
    assert process.returncode == ServerEnded.exit_code, said
    often, early = f"the worker of m_onnx died {MOST_DEATHS + 1} times", "while the model was loaded"
    # Triton itself may fall over a worker that dies while it is loaded.
    fallen = "the server ended by itself"
    assert often in said or ((early in said or fallen in said) and moment == "loaded")
    assert "Traceback" not in said
