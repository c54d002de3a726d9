"""Shared memory: what there is of it, and what clients that were killed leave in a server."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from fake_triton import serving
from hypothesis import given
from hypothesis import strategies as st
from processes import started
from waiting import until

from builder.launchers import needs, regions, sharing
from builder.launchers.regions import Sweeper
from client import Client
from client.endpoint import parse
from client.errors import NoMemory, ServerError
from client.shared_memory import FOLDER, NAME, NoRoom, Region, Regions
from client.types import Tensor

MIB = 1024 * 1024
KILLED_AT = {
    "made": "shared_memory.SharedMemory(NAME + '0a', create=True, size=4096); print(NAME + '0a', flush=True)",
    "locked": "held = Region(4096); print(held.name, flush=True)",
    "reserved": "held = Region(4096); held.reserve(4096); print(held.name, flush=True)",
    "with a child": "held = Region(4096); child = os.fork() or time.sleep(60); print(held.name, child, flush=True)",
}
"""The life of a region, as a program that tells its name and goes on."""
BEGINNING = "import os, time; from multiprocessing import shared_memory; from client.shared_memory import *; "


class Told:
    """A server as the sweeper asks it: which regions it was told of."""

    def __init__(self, *names: str) -> None:
        self.regions = [{"name": name, "key": f"/{name}", "byte_size": 4096} for name in names]

    def __call__(self, path: str, body: dict[str, Any] | None) -> Any:
        if path == "/v2/systemsharedmemory/status" and body is None:
            return self.regions
        name = path.split("/")[-2]
        self.regions = [region for region in self.regions if region["name"] != name]
        return None

    @property
    def names(self) -> set[str]:
        return {str(region["name"]) for region in self.regions}


@pytest.fixture
def sweep() -> Iterator[Callable[[Told, Path], None]]:
    """One look at a server, by a sweeper that does not look by itself, nor waits after a client's death."""
    sweepers: list[Sweeper] = []

    def once(told: Told, folder: Path = FOLDER) -> None:
        sweepers.append(Sweeper(told, folder, interval=3600, quiet=0))
        sweepers[-1].sweep()

    yield once
    for sweeper in sweepers:
        sweeper.leave()


@pytest.mark.parametrize("step", KILLED_AT)
def test_a_killed_client_leaves_nothing(step: str, sweep: Any) -> None:
    command = [sys.executable, "-c", f"{BEGINNING}{KILLED_AT[step]}; time.sleep(60)"]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        name, *children = process.stdout.readline().split()
        told = Told(name)
        if step != "made":  # for the moment before it is locked, the sweeper waits longer than here
            sweep(told)
            assert told.names == {name}
            assert (FOLDER / name).exists()
        process.kill()
        process.wait(30)
        until(lambda: regions.is_left(FOLDER / name))  # the child, too, has noticed whose it is
        sweep(told)
        assert not told.names
        until(lambda: not (FOLDER / name).exists())
        for child in children:
            os.kill(int(child), signal.SIGKILL)


def test_what_lives_is_kept_even_in_the_launchers_own_process(sweep: Any) -> None:
    region, others = Region(4096), Told("another's", "repo-client-psm_1")
    try:
        told = Told(region.name)
        sweep(told)
        sweep(others)
        assert told.names == {region.name}
        assert others.names == {"another's", "repo-client-psm_1"}  # whose rules are not known
    finally:
        region.destroy()
    sweep(told)
    assert not told.names  # it was destroyed, and the server not told


def test_a_client_that_has_just_died_may_have_requests_in_flight(tmp_path: Path) -> None:
    told = Told(f"{NAME}0b")
    sweeper = Sweeper(told, tmp_path, interval=0.01, quiet=3600)
    sweeper.sweep()
    sweeper.sweep()
    sweeper.leave()
    assert told.names == {f"{NAME}0b"}


def test_both_packages_call_the_regions_alike() -> None:
    assert regions.PREFIX == NAME


def test_keys_that_lead_elsewhere_are_not_followed(tmp_path: Path, sweep: Any) -> None:
    told = Told()
    told.regions = [{"name": f"{NAME}0c", "key": "/../../etc/passwd"}, {"name": f"{NAME}../x", "key": f"/{NAME}../x"}]
    sweep(told, tmp_path)
    assert len(told.regions) == 2


def test_memory_is_there_before_it_is_written_to() -> None:
    """A page that is lacking would end the process by SIGBUS."""
    region = Region(4 * MIB)
    try:
        region.reserve(3 * MIB)
        assert (FOLDER / region.name).stat().st_blocks * 512 >= 3 * MIB
        room = os.statvfs(FOLDER)
        with pytest.raises(NoRoom, match="to spare"):
            region.reserve(room.f_blocks * room.f_frsize + MIB)
    finally:
        region.destroy()


def test_a_region_without_room_is_kept_for_smaller_inputs() -> None:
    held = Regions()
    room = os.statvfs(FOLDER)
    # Of no memory of its own: one element, again and again.
    huge = np.broadcast_to(np.zeros(1, np.uint8), (room.f_blocks * room.f_frsize,))
    try:
        with pytest.raises(NoRoom):
            held.take([Tensor("x", huge)])
        region = held.take([Tensor("x", np.zeros(MIB, np.uint8))])
        assert region.size > huge.nbytes
    finally:
        held.destroy()


def test_without_room_inputs_go_by_value_and_it_is_said_once() -> None:
    """A limit on files stands for a full /dev/shm."""
    program = (
        "import resource, sys, client; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "image = bytes(1024 * 1024); connected = client.Client(sys.argv[1])\n"
        "for _ in range(3): print(len(connected.classify(image)))\n"
        "try: client.Client(sys.argv[1], shared_memory=True).classify(image)\n"
        "except client.ServerError as error: print(error)"
    )
    with serving() as (servicer, url):
        run = subprocess.run(
            [sys.executable, "-B", "-c", program, url],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert servicer.calls == 3
    assert run.stdout.startswith("2\n2\n2\nno memory can be shared")
    assert run.stderr.count("sent by value") == 1


@pytest.mark.parametrize("asked_for", [None, True])
def test_a_server_that_does_not_share_costs_no_memory(asked_for: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    class Seen(Region):
        def __init__(self, size: int) -> None:
            super().__init__(size)
            made.append(FOLDER / self.name)

    monkeypatch.setattr("client.shared_memory.Region", Seen)
    with serving() as (_, url), Client(url, shared_memory=asked_for) as client, ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(client.classify, bytes(MIB)) for _ in range(4)]
        assert all(type(answer.exception()) is (ServerError if asked_for else type(None)) for answer in answers)
        assert made
        assert not any(path.exists() for path in made)


def test_a_worker_without_room_is_asked_again_and_is_no_outage() -> None:
    message = "Failed to increase the shared memory pool size for key 'x' to 1 bytes."
    assert isinstance(parse("localhost:1").error("StatusCode.INTERNAL", message), NoMemory)
    with serving() as (servicer, url), Client(url) as client:

        def behave(call: int, _: Any, context: grpc.ServicerContext) -> None:
            if call == 1:
                context.abort(grpc.StatusCode.INTERNAL, message)

        servicer.behave = behave
        assert client.classify(b"x")
        assert servicer.calls == 2
    assert issubclass(NoMemory, ServerError)  # moderation judges the file alone then, and goes on


@given(st.integers(1, 64), st.integers(0, 64 * 1024 * MIB))
def test_half_of_the_room_is_left_wherever_there_is_some(workers: int, room: int) -> None:
    begun = sharing.begin_with(workers, room)
    assert sharing.LEAST_BYTES <= begun <= sharing.MOST_BYTES
    assert begun == sharing.LEAST_BYTES or begun * workers * 2 <= room
    assert bool(sharing.lack(workers, workers * MIB, room)) == (room < workers * MIB)


def test_needs_are_those_of_the_warm_up(tmp_path: Path) -> None:
    texts = {
        "step": 'backend: "python" input { data_type: TYPE_STRING dims: [1] }'
        " output { data_type: TYPE_FP16 dims: [3, 8] } instance_group { count: 2 } model_warmup { batch_size: 4 }",
        "whole": 'platform: "ensemble"',
        "broken": "{",
        "any size": 'backend: "onnxruntime" input { data_type: TYPE_INT64 dims: [-1] }'
        " output { data_type: TYPE_FP32 dims: [-1, 6] }"
        ' model_warmup { inputs { key: "ids" value { data_type: TYPE_INT64 dims: [128] } } }',
    }
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.pbtxt").write_text(text)
    assert needs.of(tmp_path) == needs.Needs(3, 2 * (MIB + 4 * (4 + 48)) + MIB + 128 * 8 + 128 * 6 * 4)


def test_the_refusal_says_how_much_is_wanted() -> None:
    said = sharing.lack(3, 5 * MIB, 2 * MIB)
    assert "has 2.0 MiB" in said
    assert "3 worker processes" in said
    assert "--shm-size=10m" in said
