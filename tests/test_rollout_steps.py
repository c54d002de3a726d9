"""What a rollout does step by step, to one real server that all these tests share."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explicit_servers import Running, serving
from swapping import MODEL, NETWORK, add, asked, built, other_network, publish, sample, scores
from test_rollout import PATIENT, settled
from waiting import until

from builder.errors import RepositoryError, RolloutBusy, RolloutError
from builder.lifecycle import exclusive, marker
from builder.lifecycle.rollout import Result, RolloutOptions, roll_out
from builder.lifecycle.serving import serving as served
from builder.lifecycle.state import look
from builder.repository import layout
from builder.triton import model_config
from builder.triton.connection import Access, Connection, connected

NUMBERS = count(100)
HELD = """

import os, time
_execute = TritonPythonModel.execute
def _held(self, requests):
    deadline = time.monotonic() + 100
    while os.path.exists({path!r}) and time.monotonic() < deadline:
        open({path!r} + "s", "w").close()
        time.sleep(0.02)
    time.sleep({pause})
    return _execute(self, requests)
TritonPythonModel.execute = _held
"""
"""Behind a step's code: it answers late, and not while a file is there; that it waits for that another file says."""


@dataclass(frozen=True)
class Place:
    """A server, and the repository that it reads."""

    repository: Path
    server: Running
    answers: list[tuple[int, Any]] = field(default_factory=list)
    """Of those who were held."""

    @property
    def access(self) -> Access:
        return Access(self.server.grpc)

    @property
    def hold(self) -> Path:
        """The file that holds answers back."""
        return self.repository.parent / "hold"

    def held(self) -> threading.Thread:
        """Somebody who asks, and is not answered before `hold` is gone."""
        self.hold.touch()
        asking = threading.Thread(target=lambda: self.answers.append(self.ask()))
        asking.start()
        until(self.hold.with_name("holds").exists)
        return asking

    def roll(self, number: int, options: RolloutOptions = PATIENT, **others: Any) -> Result:
        publish(self.repository, number)
        (result,) = roll_out(self.repository, [self.access], options, **others)
        return result

    def ask(self, inputs_of: int = 1) -> tuple[int, Any]:
        """The version that answers, and what."""
        with reached(self.access) as connection:
            answer = connection.infer(MODEL, sample(self.repository, inputs_of).inputs, seconds=60)
        return answer.version, scores(answer.outputs[0])


@contextmanager
def reached(access: Access) -> Iterator[Connection]:
    connection = connected(access)
    try:
        yield connection
    finally:
        connection.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    repository = built(tmp_path_factory.mktemp("steps"))
    publish(repository, 1)
    with serving(repository, repository.parent) as server:
        yield Place(repository, server)


@pytest.fixture
def place(running: Place) -> Place:
    """It serves the first version, and nothing is on its way."""
    running.hold.unlink(missing_ok=True)
    running.hold.with_name("holds").unlink(missing_ok=True)
    running.answers.clear()
    settled(running.server)
    running.roll(1)
    settled(running.server)
    return running


def slow(place: Place, pause: float) -> int:
    """A version with a step of its own, that answers late."""
    number = next(NUMBERS)
    name = f"preprocess_slow{number}"

    def change(ensemble: Any, _: Any) -> None:
        step = next(step for step in ensemble.ensemble_scheduling.step if step.model_name != NETWORK)
        shutil.copytree(place.repository / step.model_name, place.repository / name)
        step.model_name = name

    add(place.repository, number, 1, change)
    config = model_config.read(place.repository / name / layout.CONFIG)
    config.name = name
    (place.repository / name / layout.CONFIG).write_text(model_config.to_text(config))
    with (place.repository / name / "1" / "model.py").open("a") as code:
        code.write(HELD.format(path=str(place.hold), pause=pause))
    return number


def test_the_old_version_stays_until_its_last_request_is_through(place: Place) -> None:
    number, said = slow(place, 0.0), list[str]()
    place.roll(number)
    asking = place.held()
    publish(place.repository, 1)
    roll_out(place.repository, [place.access], RolloutOptions(timeout=10), said.append)
    assert said[-1].endswith("its old version still answers a request, and is gone when that is through")
    assert place.ask()[0] == 1
    assert place.answers == []
    place.hold.unlink()
    asking.join(60)
    ((version, found),) = place.answers
    assert version == number
    assert np.allclose(found, scores(sample(place.repository, number).outputs[0]), atol=1e-5)
    settled(place.server)
    roll_out(place.repository, [place.access], PATIENT)
    with reached(place.access) as connection:
        assert look(connection).versions(NETWORK) == {1}
        assert look(connection).versions(MODEL) == {1}


def test_a_version_that_is_too_slow_is_refused_with_figures(place: Place) -> None:
    number = slow(place, 0.05)
    with pytest.raises(RolloutError, match=r"too slow: [\d.]+ ms a request, the old version [\d.]+ ms: .* allowed 3"):
        place.roll(number, RolloutOptions(max_slowdown=3))
    assert served(place.access) == {MODEL: 1}
    assert [change.after for change in place.roll(2, RolloutOptions(max_slowdown=50)).changes] == [2]


def test_a_version_that_is_kept_loaded_is_back_at_once(place: Place) -> None:
    place.roll(2, RolloutOptions(keep_loaded=True))
    with reached(place.access) as connection:
        assert look(connection).versions(NETWORK) == {1, 2}
        loads: list[str] = []
        place.roll(1, RolloutOptions(keep_loaded=True), connect=lambda where: Watching(connected(where), loads.append))
        assert loads.count(NETWORK) == 2  # as it is, just before the trial and the switch
        assert look(connection).versions(NETWORK) == {1, 2}


class Watching:
    """A connection that tells what is loaded before it is."""

    def __init__(self, connection: Connection, told: Callable[[str], object]) -> None:
        self._connection, self._told = connection, told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def load_model(self, name: str, *args: Any, **kwargs: Any) -> None:
        self._told(name)
        self._connection.load_model(name, *args, **kwargs)


class Meddling(Watching):
    """A connection that tells what is asked before it is."""

    def infer(self, name: str, *args: Any, **kwargs: Any) -> Any:
        self._told(name)
        return self._connection.infer(name, *args, **kwargs)

    def load_model(self, name: str, *args: Any, **kwargs: Any) -> None:
        self._connection.load_model(name, *args, **kwargs)


def test_a_build_that_publishes_in_the_middle_breaks_nothing(place: Place) -> None:
    """Triton would load the network anew, with the newest version alone, as soon as an ensemble of it is loaded."""

    def meddle(name: str) -> None:
        if name != MODEL:
            publish(place.repository, 3)

    with asked(place.repository, [place.server.grpc, place.server.http]) as load:
        place.roll(2, connect=lambda access: Meddling(connected(access), meddle))
        assert served(place.access) == {MODEL: 2}
        time.sleep(0.3)
    assert (load.failed, load.wrong) == ([], [])
    (result,) = roll_out(place.repository, [place.access], PATIENT)
    assert [(change.before, change.after) for change in result.changes] == [(2, 3)]


@contextmanager
def asking_the_newest(place: Place) -> Iterator[None]:
    """An ensemble that somebody wrote: it asks whatever version of the network is the newest."""
    folder, network = place.repository / "hand", model_config.read(place.repository / NETWORK / layout.CONFIG)
    tensors = "".join(
        f'{kind} {{ name: "{one.name}" data_type: TYPE_FP32 dims: {list(one.dims)} }}\n'
        for kind, (one,) in {"input": network.input, "output": network.output}.items()
    )
    maps = "".join(
        f'{kind}_map {{ key: "{one.name}" value: "{one.name}" }}\n'
        for kind, (one,) in {"input": network.input, "output": network.output}.items()
    )
    step = f'step {{ model_name: "{NETWORK}" model_version: -1\n{maps} }}'
    (folder / "1").mkdir(parents=True)
    text = f'name: "hand" platform: "ensemble" max_batch_size: 8\n{tensors}ensemble_scheduling {{ {step} }}'
    (folder / layout.CONFIG).write_text(text)
    with reached(place.access) as connection:
        connection.load_model("hand")
        yield
        connection.unload_model("hand")
    shutil.rmtree(folder)


def test_what_cannot_be_tried_beside_is_tried_elsewhere(place: Place) -> None:
    """Versions of the same number cannot be loaded side by side, and an ensemble that asks the newest of a network has
    a candidate as soon as it is loaded. It starts two servers, which takes ten seconds.
    """
    spoilt, number = next(NUMBERS), next(NUMBERS)
    other_network(place.repository, spoilt, 1)
    refused = pytest.raises(
        RolloutError, match=r"the trial in a server of its own failed: golden sample 1 .* is off by"
    )
    with asking_the_newest(place), refused:
        place.roll(spoilt)
    add(place.repository, number, 1)
    place.roll(number)
    for model in (MODEL, NETWORK):
        shutil.rmtree(place.repository / model / str(number))
    add(place.repository, number, 2)
    for model in (MODEL, NETWORK):
        path = place.repository / model / str(number) / layout.CONFIG
        path.write_text(path.read_text().replace(f"copy {number}", "anew"))
    assert [(change.before, change.after) for change in place.roll(number).changes] == [(number, number)]
    version, found = place.ask()
    assert version == number
    assert np.allclose(found, scores(sample(place.repository, 2).outputs[0]), atol=1e-5)


def test_files_that_the_server_does_not_see_are_named(place: Place, tmp_path: Path) -> None:
    """It waits ten seconds for them, since a launcher may be bringing them there."""
    shutil.copytree(place.repository, tmp_path / "elsewhere")
    number = next(NUMBERS)
    add(tmp_path / "elsewhere", number, 2)
    publish(tmp_path / "elsewhere", number)
    named = f"does not see version {number} of {NETWORK}: .*serve's own output says why. Of {MODEL}, 1 serves on"
    with pytest.raises(RolloutError, match=named):
        roll_out(tmp_path / "elsewhere", [place.access], PATIENT)
    assert place.ask()[0] == 1


def test_a_server_that_is_up_to_date_is_left_alone(place: Place) -> None:
    changed: list[str] = []
    result = place.roll(1, connect=lambda access: Watching(connected(access), changed.append))
    assert (result.changes, changed) == ((), [])


def test_a_model_that_the_server_has_not_is_loaded(place: Place) -> None:
    with reached(place.access) as connection:
        connection.unload_model(MODEL)
        connection.unload_model(NETWORK)
        until(lambda: not look(connection).versions(NETWORK))
    (change,) = place.roll(2).changes
    assert (change.model, change.before, change.after) == (MODEL, None, 2)


def test_a_model_that_is_not_published_is_named(place: Place) -> None:
    with pytest.raises(RepositoryError, match="has no other; it has m"):
        roll_out(place.repository, [place.access], RolloutOptions(("other",)))


def test_the_first_failure_ends_it_and_tells_of_the_others(place: Place) -> None:
    publish(place.repository, 2)
    nobody = Access("127.0.0.1:1")
    with pytest.raises(RolloutError, match=f"(?s)does not answer.*published: {place.access.url}; not touched: 1"):
        roll_out(place.repository, [place.access, nobody, Access("127.0.0.1:2")], PATIENT)
    assert served(place.access) == {MODEL: 2}
    with pytest.raises(RolloutError, match=f"published: .*{place.access.url}"):
        roll_out(place.repository, [place.access, nobody], RolloutOptions(parallel=2))


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_undoes_what_is_under_way_beside_others(place: Place) -> None:
    """The signal comes to the main thread while another one loads; what that has loaded by then is unloaded."""
    publish(place.repository, 2)

    def interrupt(name: str) -> None:
        if name == NETWORK and not interrupted:
            interrupted.append(name)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(1)  # the main thread takes note in a moment

    interrupted: list[str] = []
    servers = [place.access, Access("127.0.0.1:1")]
    with pytest.raises(KeyboardInterrupt):
        roll_out(
            place.repository,
            servers,
            RolloutOptions(parallel=2),
            connect=lambda where: Watching(connected(where), interrupt),
        )
    with reached(place.access) as connection:
        assert not connection.is_model_ready(marker.NAME)
        until(lambda: look(connection).versions(NETWORK) == look(connection).versions(MODEL) == {1})


def test_two_rollouts_to_one_server_at_once(place: Place) -> None:
    publish(place.repository, 2)
    busy = pytest.raises(RolloutBusy, match=r"another rollout of .* is at work")
    with exclusive.on_this_machine(place.repository, place.access), busy:
        roll_out(place.repository, [place.access], PATIENT)
    assert served(place.access) == {MODEL: 1}


def test_a_rollout_from_another_machine_is_waited_for(place: Place) -> None:
    publish(place.repository, 2)
    with reached(place.access) as connection:
        seen = look(connection)
        foreign = marker.config_of(seen, marker.Owner("elsewhere", 1, "", time.time(), "theirs", ""))
        connection.load_model(marker.NAME, *foreign)
        with pytest.raises(RolloutBusy, match="process 1 on elsewhere"):
            roll_out(place.repository, [place.access], PATIENT)
        assert served(place.access) == {MODEL: 1}
        dead = marker.config_of(seen, marker.Owner("elsewhere", 1, "", time.time() - 3600, "theirs", ""))
        connection.load_model(marker.NAME, *dead)
        roll_out(place.repository, [place.access], PATIENT)
        assert served(place.access) == {MODEL: 2}
        assert not connection.is_model_ready(marker.NAME)
        for where, is_dead in (("another container's", False), (marker.place(), True)):
            named = marker.Owner(socket.gethostname(), 2**22 + 1, "1", time.time(), "theirs", where)
            connection.load_model(marker.NAME, *marker.config_of(seen, named))
            assert marker.read(connection) == named
            assert named.is_alive is not is_dead
    assert place.roll(1).changes[0].after == 1


def test_the_command_says_what_it_did(place: Place) -> None:
    publish(place.repository, 2)
    command = [sys.executable, "-m", "builder", "rollout", "-r", place.repository, "--url", place.server.http]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith(f"{place.server.http}: m 2 serves (was 1), "), done.stderr
    again = subprocess.run([*command, "m", "--json"], capture_output=True, text=True, timeout=120)
    assert json.loads(again.stdout) == {"servers": [{"url": place.server.http, "changes": []}]}
