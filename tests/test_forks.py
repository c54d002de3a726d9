"""A client in a process that was forked: it answers for its own images, or refuses; it never hangs, and never harms."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ANY_PORTS, build
from forking import CALLS, CHILDREN
from PIL import Image

from builder.launchers import LAUNCHERS
from builder.types import Endpoints

SECONDS = 240
NETWORK = """
import torch
from torch import nn


class Brightness(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Linear(1, 2)
        self.scores.weight.data = torch.tensor([[9.0], [-9.0]])
        self.scores.bias.data.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(x.mean(dim=(2, 3)))
"""
MANIFEST = """
models:
  brightness:
    network: brightness.py:Brightness
    weights: included
    labels: [bright, dark]
    preprocess: {channels: 1, resize: [8, 8], mean: [0.5], std: [0.5]}
"""


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """The real one, of a model that tells bright images from dark ones."""
    folder = tmp_path_factory.mktemp("forks")
    (folder / "brightness.py").write_text(NETWORK)
    build(folder, MANIFEST)
    running = LAUNCHERS["embedded"].launch(folder / "repository", ANY_PORTS)
    yield running.endpoints
    running.stop()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A bright one and a dark one, large enough for shared memory."""
    files = [tmp_path_factory.mktemp("images") / name for name in ("bright.bmp", "dark.bmp")]
    for file, colour in zip(files, (250, 5), strict=True):
        Image.new("L", (800, 800), colour).save(file)
    return files


Run = Any


@pytest.fixture
def run(own_server: Endpoints, images: list[Path]) -> Run:
    def run(scenario: str, transport: str, shared_memory: bool) -> dict[str, Any]:
        url = own_server.grpc if transport == "grpc" else f"http://{own_server.http}"
        settings = json.dumps({"shared_memory": shared_memory, "timeout": 50})
        program = [sys.executable, str(Path(__file__).with_name("forking.py")), scenario, url, settings]
        # To a file: a child that hangs and holds a pipe open would hang the test as well.
        with images[0].with_name("said").open("w+") as said, images[0].with_name("told").open("w+") as told:
            done = subprocess.run([*program, *map(str, images)], stdout=said, stderr=told, timeout=SECONDS)
            said.seek(0)
            told.seek(0)
            text, errors = said.read(), told.read()
        assert done.returncode == 0, text + errors
        # gRPC's own handlers, which tell when they find it in use: where they do not, they can lose the parent's calls.
        assert "fork() handlers" not in errors
        found: dict[str, Any] = json.loads(text)
        assert set(found.get("parent", {"bright": 1})) == {"bright"}
        return found

    return run


TRANSPORTS = pytest.mark.parametrize("transport", ["grpc", "http"])
SHARED = pytest.mark.parametrize("shared_memory", [True, False], ids=["shared", "by value"])
BOTH = [{"bright": CALLS}, {"dark": CALLS}]


@TRANSPORTS
@SHARED
def test_children_beside_a_parent_with_calls_in_flight(run: Run, transport: str, shared_memory: bool) -> None:
    assert run("busy", transport, shared_memory)["children"] == BOTH * CHILDREN


@TRANSPORTS
@pytest.mark.parametrize("scenario", ["quiet", "unused", "processes"])
def test_children_of_every_kind(scenario: str, run: Run, transport: str) -> None:
    """os.fork after calls, and before any, as by gunicorn --preload; and multiprocessing."""
    assert run(scenario, transport, True)["children"] == BOTH


@TRANSPORTS
def test_what_a_child_closes_is_its_own(run: Run, transport: str) -> None:
    found = run("closing", transport, True)
    closed, used, dropped, idle = found["children"]
    assert closed == {"Cancelled: the client was closed": 1}
    assert [child["said"] for child in (used, dropped, idle)] == [{"dark": 2}, {"dark": 2}, {}]
    assert [len(child["made"]) for child in (used, dropped, idle)] == [1, 1, 0]
    assert found["left"] == []
    assert found["kept"]


@TRANSPORTS
def test_iteration_of_the_parents_goes_on_there_alone(run: Run, transport: str) -> None:
    found = run("iterating", transport, True)
    refused, other = found["children"]
    assert "goes on in its parent alone" in refused["refused"]
    assert other == {"dark": CALLS}
    assert found["rest"] == {"bright": 49, "dark": 50}


@TRANSPORTS
def test_children_of_children(run: Run, transport: str) -> None:
    assert run("generations", transport, True)["children"] == [{"bright": 2, "children": [{"dark": 2}]}]


@TRANSPORTS
@SHARED
def test_event_loops(run: Run, transport: str, shared_memory: bool) -> None:
    continued, *others = run("loops", transport, shared_memory)["children"]
    assert "asyncio.run()" in continued["refused"]
    assert others == BOTH


def test_child_that_can_start_no_process_for_grpc_says_so(run: Run) -> None:
    (said,) = run("without_python", "grpc", False)["children"]
    ((message, _),) = said.items()
    assert message.startswith("ServerUnavailable: ")
    assert "this process was forked after gRPC was used" in message
