"""A launcher is one module and one line in LAUNCHERS: what it takes, `build-repo serve` takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from builder.cli import app
from builder.errors import LaunchError
from builder.launchers import LAUNCHERS, LaunchOptions
from builder.types import Endpoints


@dataclass(frozen=True)
class Rocket:
    fuel: str | None = field(default=None, metadata={"help": "what it burns.", "metavar": "FUEL", "letter": "f"})
    stage_count: int = field(default=1, metadata={"help": "how many.", "min": 1})
    detach: bool = field(default=False, metadata={"help": "go on."})


class RocketServer:
    endpoints = Endpoints(grpc="127.0.0.1:1", http="127.0.0.1:2", metrics="http://127.0.0.1:3/metrics")
    name, is_restricted, access, advisories = "apollo", False, None, ()

    def __init__(self, is_detached: bool) -> None:
        self.is_detached = is_detached

    def wait(self) -> int:
        return 7

    def is_live(self) -> bool:
        return True

    def served(self, name: str) -> tuple[int, ...]:
        del name
        return ()

    def stop(self) -> None:
        pass


class RocketLauncher:
    """In the place of a module of somebody else's."""

    OPTIONS: type[Any] = Rocket
    LISTED_BY = "rockets --all"

    def __init__(self) -> None:
        self.launched: list[tuple[Path, LaunchOptions, Rocket]] = []

    def launch(self, repository: Path, options: LaunchOptions, own: Any = None) -> RocketServer:
        self.launched.append((repository, options, own))
        return RocketServer(own.detach)

    def stop(self, repository: Path | None, name: str | None) -> list[str]:
        del repository
        return ["apollo"] if name in (None, "apollo") else []


@pytest.fixture
def rocket() -> Iterator[RocketLauncher]:
    launcher = RocketLauncher()
    LAUNCHERS["rocket"] = launcher
    yield launcher
    del LAUNCHERS["rocket"]


def build_repo(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_a_launchers_own_options_are_those_of_serve(rocket: RocketLauncher, tmp_path: Path) -> None:
    given = ("-f", "hydrogen", "--stage-count", 3, "--detach", "--http-port", 0, "--json")
    done = build_repo("serve", "-r", tmp_path, "--launcher", "rocket", *map(str, given))
    assert done.exit_code == 0, done.output
    ((repository, options, own),) = rocket.launched
    assert (repository, options.http_port) == (tmp_path, 0)
    assert own == Rocket(fuel="hydrogen", stage_count=3, detach=True)
    assert json.loads(done.stdout)["grpc"] == "127.0.0.1:1"


def test_what_is_not_given_is_the_models_default(rocket: RocketLauncher, tmp_path: Path) -> None:
    done = build_repo("serve", "-r", tmp_path, "--launcher", "rocket")
    assert "ended by itself with status 7" in str(done.exception)
    assert rocket.launched[0][2] == Rocket()


def test_help_says_whose_an_option_is(rocket: RocketLauncher) -> None:
    assert rocket.launched == []
    text = " ".join(build_repo("serve", "--help").stdout.split())
    assert "-f, --fuel FUEL rocket: what it burns." in text
    assert "--stage-count <int range> rocket: how many. [x>=1]" in text
    assert "-d, --detach docker, rocket: " in text
    assert "--memory SIZE docker: at most, such as 4g." in text


@pytest.mark.usefixtures("rocket")
@pytest.mark.parametrize(
    ("launcher", "option", "owner"),
    [("embedded", "--image=x:1", "docker"), ("rocket", "--cpus=2", "docker"), ("docker", "--stage-count=2", "rocket")],
)
def test_an_option_of_another_launcher_is_refused(launcher: str, option: str, owner: str, tmp_path: Path) -> None:
    done = build_repo("serve", "-r", tmp_path, "--launcher", launcher, option)
    name = option.partition("=")[0]
    assert isinstance(done.exception, LaunchError)
    assert str(done.exception) == f"{name} is for --launcher {owner}; add that, or leave it out"


@pytest.mark.usefixtures("rocket")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--watch", "--detach"], "--watch lasts as long as this command, which --detach ends"),
        (["--watch"], "has no key to its server's models; give one with --admin-key-file"),
        (["--max-slowdown", "2"], "--max-slowdown is for versions that --watch rolls out"),
    ],
)
def test_what_cannot_follow_the_repository_says_so(given: list[str], said: str, tmp_path: Path) -> None:
    done = build_repo("serve", "-r", tmp_path, "--launcher", "rocket", *given)
    assert isinstance(done.exception, LaunchError)
    assert said in str(done.exception)


@pytest.mark.usefixtures("rocket")
def test_what_the_metadata_refuses_is_a_mistake_of_the_command_line(tmp_path: Path) -> None:
    assert build_repo("serve", "-r", tmp_path, "--launcher", "rocket", "--stage-count", "0").exit_code == 2


def test_stop_asks_every_launcher(rocket: RocketLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(LAUNCHERS, "docker")  # whose engine may not be there
    assert build_repo("stop", "--name", "apollo").stdout == "apollo\n"
    missed = build_repo("stop", "--name", "gemini")
    assert str(missed.exception) == f"no container gemini; {rocket.LISTED_BY} lists those that do"


ABSENT = ("ruamel", "torch", "torchvision", "onnx", "docker", "PIL", "sklearn")
"""Not in the slim image, in which `serve` runs."""


def test_serve_needs_little_beside_the_server() -> None:
    code = f"""
import sys
class Absent:
    def find_spec(self, name, *_):
        if name in {ABSENT!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
from builder.cli import app
app(["serve", "--help"])
"""
    root = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": root}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "docker: what serves" in done.stdout
