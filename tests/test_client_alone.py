"""The client without PyTorch and without the builder, as `pip install '.[client]'` gives it."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from client.cli import app

ROOT = Path(__file__).parent.parent
ABSENT = ("torch", "torchvision", "builder", "onnx", "onnxruntime", "openvino", "jinja2", "ruamel.yaml")
COMMANDS = sorted(command.name or command.callback.__name__ for command in app.registered_commands if command.callback)
# sys.modules[name] = None makes every import of it fail.
PROGRAM = f"""
import sys
sys.modules.update(dict.fromkeys({ABSENT}))
from client.cli import main
main()
"""
HEAVY = ("numpy", "grpc", "tritonclient", "aiohttp", "fastapi", "uvicorn", "rich.live", "pyarrow", "prometheus_client")


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_does_without_the_builders_packages(command: str) -> None:
    done = run(PROGRAM, command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_it_asks_a_server_without_them(fake: tuple[object, str]) -> None:
    done = run(PROGRAM, "models", "--url", fake[1])
    assert done.returncode == 0, done.stderr
    assert "pets" in done.stdout


def test_help_waits_for_no_heavy_import() -> None:
    program = f"import sys, client.cli\nprint([name for name in {HEAVY} if name in sys.modules])"
    assert run(program).stdout.strip() == "[]"


def test_nothing_of_it_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["client"]]
    assert not [name for name in wanted if name.startswith(("torch", "onnx", "openvino", "nvidia-pytriton"))]
