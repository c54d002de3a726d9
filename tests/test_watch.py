"""A server that follows its repository: what is published is what it serves, and no request notices."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import rebuilding
from conftest import ANY_PORTS, build
from processes import started
from published import publish_model
from test_workers import kill_worker
from waiting import until

from builder.errors import RepositoryError, RolloutBusy, RolloutError, ServerAway
from builder.launchers import LAUNCHERS, workers
from builder.launchers.embedded import EmbeddedServer
from builder.lifecycle import watch
from builder.lifecycle.rollout import Change, Result, RolloutOptions, roll_out
from builder.triton.connection import Access
from client import Client

PORTS = ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]
Answer = tuple[float, ...]


@dataclass
class Asked:
    """What clients got of `m`, by both protocols, of two threads each."""

    answers: dict[Answer, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def count(self) -> int:
        return sum(self.answers.values())


@contextmanager
def asking(*urls: str) -> Iterator[Asked]:
    asked, stop = Asked(), threading.Event()

    def ask(url: str) -> None:
        with Client(url, retries=0, timeout=60) as client:
            while not stop.wait(rebuilding.PAUSE_SECONDS):  # the builds need the machine, too
                try:
                    found = answer(client)
                except Exception as error:  # counted; raised in a thread it would only be printed
                    asked.failed.append(repr(error))
                    return
                asked.answers[found] = asked.answers.get(found, 0) + 1

    threads = [threading.Thread(target=ask, args=(url,)) for url in urls for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield asked
    finally:
        stop.set()
        for thread in threads:
            thread.join(120)


def answer(client: Client, model: str = "m") -> Answer:
    return tuple(round(one.probability, 6) for one in client.classify(rebuilding.PHOTO, model))


def now(url: str, model: str = "m") -> Answer:
    with Client(url, retries=0, timeout=60) as client:
        return answer(client, model)


@dataclass
class Serving:
    process: subprocess.Popen[str]
    ready: dict[str, Any]
    said: queue.Queue[str] = field(default_factory=queue.Queue)

    @property
    def urls(self) -> tuple[str, str]:
        return self.ready["grpc"], f"http://{self.ready['http']}"

    def listen(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.said.put(line)

    def until_said(self, words: str, seconds: float = 60) -> str:
        while words not in (line := self.said.get(timeout=seconds)):
            assert "Traceback" not in line
        return line


@contextmanager
def serve(repository: Path, *options: str) -> Iterator[Serving]:
    command = [sys.executable, "-m", "builder", "serve", "-r", str(repository), "--json", "--watch", *PORTS, *options]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        serving = Serving(process, json.loads(process.stdout.readline()))
        listener = threading.Thread(target=serving.listen, daemon=True)
        listener.start()
        yield serving
        process.kill()
        process.wait(60)
        listener.join(60)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose repository has version 1, and whose `later` is the same repository with version 2."""
    folder = tmp_path_factory.mktemp("two")
    build(folder, "models:\n" + rebuilding.entry())
    subprocess.run(["cp", "-a", folder / "repository", folder / "later"], check=True, timeout=60)
    build(folder, "models:\n" + rebuilding.entry(seed="1"), folder / "later")
    return folder


def publish_later(two: Path, repository: Path) -> None:
    subprocess.run(["cp", "-a", f"{two / 'later'}/.", repository], check=True, timeout=60)


def test_what_is_built_is_served_and_no_request_fails(tmp_path: Path) -> None:
    """The whole story, of real builds; they take the time."""
    build(tmp_path, "models:\n" + rebuilding.entry())
    repository = tmp_path / "repository"
    with serve(repository) as serving, asking(*serving.urls) as asked:
        known = {now(serving.urls[0])}
        build(tmp_path, "models:\n" + rebuilding.entry(seed="1") + rebuilding.entry("another"))
        serving.until_said("serving another 1, ")
        until(lambda: now(serving.urls[1]) not in known)  # which of the two is first, nobody says
        known.add(now(serving.urls[0]))
        assert now(serving.urls[0], "another")
        until(lambda: len(asked.answers) == 2)
        assert (asked.failed, set(asked.answers)) == ([], known)
        serving.process.send_signal(signal.SIGTERM)
        serving.process.wait(60)
    assert serving.process.returncode == 0


def test_a_stop_in_the_middle_of_a_rollout_leaves_nothing(two: Path, tmp_path: Path) -> None:
    """What was in flight is answered, and the server ends as it always does."""
    subprocess.run(["cp", "-a", two / "repository", tmp_path / "repository"], check=True, timeout=60)
    with serve(tmp_path / "repository") as serving, asking(*serving.urls) as asked:
        before = now(serving.urls[0])
        publish_later(two, tmp_path / "repository")
        until(lambda: is_ready(serving.urls[1], "build-repo-rollout"), pause=0.002)
        serving.process.send_signal(signal.SIGTERM)
        serving.process.wait(60)
        until(lambda: len(asked.failed) == 4)  # there is no server any more
    assert serving.process.returncode == 0
    assert before in asked.answers
    assert len(asked.answers) <= 2
    assert {"ServerUnavailable"} == {said.partition("(")[0] for said in asked.failed}


def is_ready(http: str, model: str) -> bool:
    try:
        with urllib.request.urlopen(f"{http}/v2/models/{model}/ready", timeout=10):
            return True
    except OSError:
        return False


# --- what the launcher does beside ---


@pytest.fixture
def server(two: Path, tmp_path: Path) -> Iterator[EmbeddedServer]:
    subprocess.run(["cp", "-a", two / "repository", tmp_path / "repository"], check=True, timeout=60)
    running = LAUNCHERS["embedded"].launch(tmp_path / "repository", ANY_PORTS)
    assert isinstance(running, EmbeddedServer)
    yield running
    running.stop()


def test_a_worker_is_revived_in_the_version_that_serves(server: EmbeddedServer, two: Path, tmp_path: Path) -> None:
    """Not in the one that is published meanwhile, whose files and config are before the server by then."""
    first = now(server.endpoints.grpc)
    publish_later(two, tmp_path / "repository")
    config = tmp_path / "repository" / "m_onnx" / "config.pbtxt"
    until(lambda: (server.models / "m_onnx" / "2").exists())
    until(lambda: "versions: 2" in (server.models / "m_onnx" / "config.pbtxt").read_text() or same_text(server, config))
    assert now(server.endpoints.grpc) == first
    killed = until(lambda: kill_worker(os.getpid(), "m_onnx"))
    until(lambda: workers_of("m_onnx") and not workers_of("m_onnx") & killed)
    until(lambda: answers(server.endpoints.grpc), 120)
    assert now(server.endpoints.grpc) == first
    assert server.served("m") == server.served("m_onnx") == (1,)
    assert server.access
    (result,) = roll_out(tmp_path / "repository", [server.access], RolloutOptions())
    assert [(change.before, change.after) for change in result.changes] == [(1, 2)]
    second = now(server.endpoints.grpc)
    killed = until(lambda: kill_worker(os.getpid(), "m_onnx"))
    until(lambda: workers_of("m_onnx") and not workers_of("m_onnx") & killed)
    until(lambda: answers(server.endpoints.grpc), 120)
    assert first != now(server.endpoints.grpc) == second


def same_text(server: EmbeddedServer, config: Path) -> bool:
    return (server.models / "m_onnx" / "config.pbtxt").read_text() == config.read_text()


def answers(url: str) -> bool:
    try:
        return bool(now(url))
    except Exception:  # whatever it is, it is no answer
        return False


def workers_of(model: str) -> set[int]:
    return {worker for version, found in living().items() if f"{model}/" in version for worker in found}


def of_version(version: str) -> set[int]:
    return living().get(version, set())


def living() -> dict[str, set[int]]:
    """Of the servers below this process."""
    servers = [server for guard in workers.children(os.getpid()) for server in workers.children(guard)]
    return {version: found for server in servers for version, found in workers.running(server).items()}


def test_a_version_that_nobody_asks_is_revived_beside_the_other(
    server: EmbeddedServer, two: Path, tmp_path: Path
) -> None:
    """The old one stays loaded for a rollback; its worker dies, and requests of the new one do not notice."""
    publish_later(two, tmp_path / "repository")
    assert server.access
    roll_out(tmp_path / "repository", [server.access], RolloutOptions(keep_loaded=True))
    assert server.served("m_onnx") == (1, 2)
    with asking(server.endpoints.grpc, f"http://{server.endpoints.http}") as asked:
        until(lambda: len(of_version("m_onnx/1")) == len(of_version("m_onnx/2")) == 1)  # once they are settled
        before = workers_of("m_onnx")
        for old in of_version("m_onnx/1"):
            os.kill(old, signal.SIGKILL)
        until(lambda: len(workers_of("m_onnx") - before) == 1 and server.served("m_onnx") == (1, 2))
        count = asked.count()
        until(lambda: asked.count() > count + 20)
    assert asked.failed == []
    assert len(asked.answers) == 1


def test_files_of_a_version_that_is_gone_go_with_it(server: EmbeddedServer, two: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    publish_later(two, repository)
    until(lambda: (server.models / "m_onnx" / "2").exists())
    subprocess.run(["rm", "-r", repository / "m_onnx" / "1", repository / "m" / "1"], check=True, timeout=60)
    assert server.access
    roll_out(repository, [server.access], RolloutOptions())
    until(lambda: not (server.models / "m_onnx" / "1").exists() and not (server.models / "m" / "1").exists())
    assert answers(server.endpoints.grpc)


# --- when it rolls out, and what it says ---


class Rollouts:
    """In the place of `roll_out`: what it was called for, and what becomes of it."""

    def __init__(self) -> None:
        self.served: dict[str, tuple[int, ...]] = {}
        self.called: list[str] = []
        self.errors: dict[str, Exception] = {}

    def __call__(self, repository: Path, servers: list[Access], options: RolloutOptions, report: Any) -> list[Result]:
        del report
        from builder.launchers import newer

        (name,) = options.models
        self.called.append(name)
        if name in self.errors:
            raise self.errors[name]
        (version,) = newer.published(repository)[name]
        (before,) = self.served.get(name, (None,))
        self.served[name] = (version,)
        return [Result(servers[0].url, (Change(name, before, version, 0.25),))]


@contextmanager
def following(repository: Path, rollouts: Rollouts, **options: Any) -> Iterator[queue.Queue[str]]:
    said: queue.Queue[str] = queue.Queue()

    def serves(name: str) -> tuple[int, ...]:
        return rollouts.served.get(name, ())

    with watch.watched(repository, Access("host:1"), serves, said.put, roll=rollouts, **options):
        yield said


def test_it_says_what_is_served_and_what_is_gone(tmp_path: Path) -> None:
    publish_model(tmp_path, "a")
    rollouts = Rollouts()
    rollouts.served["a"] = (1,)
    with following(tmp_path, rollouts) as said:
        publish_model(tmp_path, "a")
        assert said.get(timeout=30) == "serving a 2 (was 1), 0.2 s"
        publish_model(tmp_path, "b")
        assert said.get(timeout=30) == "serving b 1, 0.2 s"
        subprocess.run(["rm", "-r", tmp_path / "b"], check=True, timeout=60)
        assert said.get(timeout=30).startswith(
            "b is gone from the repository; this server serves it until it is started"
        )
    assert rollouts.called == ["a", "b"]


def test_what_was_refused_is_not_tried_again_until_it_changes(tmp_path: Path) -> None:
    """And does not keep others from being served."""
    publish_model(tmp_path, "bad")
    rollouts = Rollouts()
    rollouts.errors["bad"] = RolloutError("the trial failed, by 3 %")
    with following(tmp_path, rollouts) as said:
        assert said.get(timeout=30) == "the trial failed, by 3 %"
        publish_model(tmp_path, "good")
        assert said.get(timeout=30) == "serving good 1, 0.2 s"
        assert rollouts.called == ["bad", "good"]
        del rollouts.errors["bad"]
        publish_model(tmp_path, "bad")
        assert said.get(timeout=30) == "serving bad 2, 0.2 s"


def test_what_was_refused_is_tried_again_when_a_file_of_it_is_mended(tmp_path: Path) -> None:
    network = publish_model(tmp_path, "bad", files={"model.bin": b"1"}).network
    publish_model(tmp_path, "worse")
    rollouts = Rollouts()
    rollouts.errors = dict.fromkeys(("bad", "worse"), RolloutError("the repository is not what was built"))
    with following(tmp_path, rollouts) as said:
        for _ in rollouts.errors:
            assert said.get(timeout=30) == "the repository is not what was built"
        del rollouts.errors["bad"]
        (tmp_path / network / "1" / "model.bin").write_bytes(b"2")
        assert said.get(timeout=30) == "serving bad 1, 0.2 s"
    assert rollouts.called == ["bad", "worse", "bad"]


def test_it_waits_for_another_rollout(tmp_path: Path) -> None:
    publish_model(tmp_path, "a")
    rollouts = Rollouts()
    rollouts.errors["a"] = RolloutBusy("another rollout is at work")
    with following(tmp_path, rollouts) as said:
        until(lambda: len(rollouts.called) > 2)
        del rollouts.errors["a"]
        assert said.get(timeout=30) == "serving a 1, 0.2 s"


def test_a_rollout_that_lasts_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BUSY_SECONDS", 1.0)
    publish_model(tmp_path, "a")
    rollouts = Rollouts()
    rollouts.errors["a"] = RolloutBusy("another rollout is at work")
    with following(tmp_path, rollouts) as said:
        assert said.get(timeout=30) == "another rollout is at work"
        called = len(rollouts.called)
        until(lambda: len(rollouts.called) > called + 1)
        assert said.empty()


def test_a_server_that_is_away_is_brought_when_it_is_back(tmp_path: Path) -> None:
    """Its absence is no refusal, and is said once."""
    publish_model(tmp_path, "a")
    rollouts = Rollouts()
    rollouts.errors["a"] = ServerAway("host:1 does not answer")
    with following(tmp_path, rollouts) as said:
        assert said.get(timeout=30) == "host:1 does not answer"
        until(lambda: len(rollouts.called) > 2)
        del rollouts.errors["a"]
        assert said.get(timeout=30) == "serving a 1, 0.2 s"


def test_a_repository_whose_files_are_coming_is_tried_again(tmp_path: Path) -> None:
    """Whatever of it changes, be it one artifact; until then it is left in peace."""
    publish_model(tmp_path, "a", files={"model.plan": "half"})
    (artifact,) = tmp_path.glob("*/1/model.plan")
    rollouts = Rollouts()
    rollouts.errors["a"] = RepositoryError("a_tensorrt/1/model.plan differs")
    with following(tmp_path, rollouts) as said:
        assert said.get(timeout=30) == "a_tensorrt/1/model.plan differs"
        time.sleep(2)
        assert len(rollouts.called) == 1
        del rollouts.errors["a"]
        artifact.write_text("whole")
        assert said.get(timeout=30) == "serving a 1, 0.2 s"


def test_a_server_that_cannot_say_what_it_serves_is_asked_again(tmp_path: Path) -> None:
    publish_model(tmp_path, "a")
    said: queue.Queue[str] = queue.Queue()
    rollouts, busy = Rollouts(), [True]

    def serves(name: str) -> tuple[int, ...]:
        if busy:
            busy.pop()
            raise urllib.error.URLError("it is busy")
        return rollouts.served.get(name, ())

    with watch.watched(tmp_path, Access("host:1"), serves, said.put, roll=rollouts):
        assert "it is busy" in said.get(timeout=30)
        assert said.get(timeout=30) == "serving a 1, 0.2 s"
