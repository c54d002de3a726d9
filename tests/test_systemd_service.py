"""The units in a systemd of their own: a container whose first process it is, without a network."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import build
from docker.types import Mount
from engines import OWN, base_image, engine, nearly_privileged
from load import BATCH

from builder.deploy import systemd, units
from builder.deploy.systemd import Environment, Gateway, Options, render
from builder.errors import LaunchError
from builder.repository.served import read_repository

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[1]
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = ("systemd", "systemd-sysv", "dbus", "procps")
SERVER, GATEWAY = systemd.SERVER, systemd.GATEWAY
# Below a home, and in need of whatever quoting there is.
MODELS = Path("/home", "100% $HOME \"a\" 'b' \\n:c;d")
PREFIX = Path("/opt/100% $HOME:c;d")
ADMIN_KEY, API_KEY = "the-administrators-key", "the-callers-key"
MANIFEST = "models:\n  mine: {network: lenet, weights: random, format: onnx}\n"
CLASSES = 5  # that are told
PATIENCE = 180


class Machine:
    """A container in which systemd is the first process."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def run(self, *command: str, code: int = 0) -> str:
        """Output of a command, which must end with `code`."""
        done = self._container.exec_run(list(command), environment={"PYTHONPATH": str(ROOT)})
        output: str = done.output.decode(errors="replace")
        assert done.exit_code == code, f"{command}: {output}\n{self.journal()}"
        return output

    def journal(self) -> str:
        command = ["journalctl", "--no-pager", "--lines=60", "--output=cat"]
        return str(self._container.exec_run(command).output.decode(errors="replace"))

    def write(self, path: str | Path, text: str, mode: str = "644") -> None:
        self.run("sh", "-ec", 'mkdir -p "${1%/*}"; printf %s "$2" > "$1"; chmod $3 "$1"', "-", str(path), text, mode)

    def show(self, unit: str, *properties: str) -> list[str]:
        output = self.run("systemctl", "show", unit, *(f"--property={name}" for name in properties))
        values = dict(line.split("=", 1) for line in output.splitlines())
        return [values[name] for name in properties]

    def until(self, condition: Callable[[], bool]) -> None:
        """Bounded waiting; the bound is far above what is seen."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.journal()
            time.sleep(0.5)

    def python(self, *arguments: str) -> str:
        return self.run(sys.executable, *arguments)

    def classify(self) -> str:
        photo = f"{ROOT}/builder/samples/rocket.jpg"
        return self.python("-m", "client.cli", "classify", photo, "--url", "127.0.0.1:8001")


def python_folders() -> set[Path]:
    """What to bring along of this Python; one of the distribution's own is a package there, too."""
    folders = {ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix)}
    return {folder for folder in folders if folder != Path("/usr")}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    build(folder, MANIFEST)
    return folder / "repository"


@pytest.fixture(scope="module")
def empty(models: Path) -> Iterator[Machine]:
    """Without the units."""
    client = engine()
    python = [PYTHON, f"lib{PYTHON}"] if sys.base_prefix == "/usr" else []
    mounts = [Mount(str(path), str(path), "bind", read_only=True) for path in python_folders()]
    container = client.containers.run(
        base_image(client, (*PACKAGES, *python)),
        ["sh", "-c", "mount --make-rshared / && exec /sbin/init"],  # which systemd does itself outside containers
        detach=True,
        name=f"{OWN}-systemd",
        network_mode="none",
        mounts=[*mounts, Mount(str(MODELS), str(models), "bind", read_only=True)],
        tmpfs={"/run": "exec", "/run/lock": "", "/tmp": "exec"},
        environment={"container": "docker"},
        **nearly_privileged(),
    )
    try:
        machine = Machine(container)
        machine.until(lambda: container.exec_run(["systemctl", "is-system-running", "--wait"]).exit_code == 0)
        machine.run("ldconfig")
        machine.run("ln", "-s", sys.prefix, str(PREFIX))
        yield machine
    finally:
        container.remove(force=True)
        client.close()


@pytest.fixture(scope="module")
def options() -> Options:
    before = Gateway("mine", drain=3, api_key=Path("/etc/build-repo/api.key"))
    environment = Environment(PREFIX, tuple(python_folders()))
    return Options(MODELS, environment, admin_key=Path("/etc/build-repo/admin.key"), gateway=before)


def install(machine: Machine, models: Path, options: Options) -> None:
    """As the README that comes with the units says; they run this tree, not the environment's own."""
    files = render(read_repository(models), options)
    for name, text in files.items():
        machine.write(f"/root/units/{name}", text)
    machine.write("/etc/build-repo/admin.key", ADMIN_KEY, "600")
    machine.write("/etc/build-repo/api.key", API_KEY, "600")
    own = f"[Service]\nEnvironment={units.word(f'PYTHONPATH={ROOT}')}\nWatchdogSec=15\n"
    for name in (SERVER, GATEWAY):
        machine.write(f"/etc/systemd/system/{name}.d/test.conf", own)
    commands = re.search(r"```sh\n(.*?)```", files["README.md"], re.DOTALL)
    assert commands
    machine.run("sh", "-exc", f"cd /root/units\n{commands[1]}")


@pytest.fixture(scope="module")
def installed(empty: Machine, models: Path, options: Options) -> Machine:
    install(empty, models, options)
    return empty


@pytest.fixture
def machine(installed: Machine) -> Machine:
    """Both services are ready."""
    installed.run("systemctl", "reset-failed", SERVER, GATEWAY)
    installed.run("systemctl", "start", SERVER, GATEWAY)
    return installed


ASK_GATEWAY = """
import sys, urllib.error, urllib.request
url, photo, key = sys.argv[1:]
headers = {"Content-Type": "image/jpeg", "Authorization": f"Bearer {key}"}
try:
    print(urllib.request.urlopen(urllib.request.Request(url, open(photo, "rb").read(), headers)).read().decode())
except urllib.error.HTTPError as error:
    print(error.code)
"""


def ask_gateway(machine: Machine, key: str, port: int = 8080) -> Any:
    photo = f"{ROOT}/builder/samples/rocket.jpg"
    return json.loads(machine.python("-c", ASK_GATEWAY, f"http://127.0.0.1:{port}/classify", photo, key))


def test_start_is_back_when_it_serves(machine: Machine) -> None:
    assert machine.show(SERVER, "ActiveState", "StatusText") == ["active", "gRPC 127.0.0.1:8001, HTTP 127.0.0.1:8000"]
    assert machine.show(GATEWAY, "ActiveState", "StatusText") == ["active", "listening on http://127.0.0.1:8080"]
    assert "%" in machine.classify()
    assert len(ask_gateway(machine, API_KEY)["predictions"]) == CLASSES
    assert ask_gateway(machine, "another-key") == 401


def test_who_they_run_as_and_what_they_may(machine: Machine) -> None:
    for name in ("tritonserver", "triton_python_b", "repo-client"):
        pid = machine.run("pgrep", "-x", name).split()[0]
        status = dict(line.split(":\t", 1) for line in machine.run("cat", f"/proc/{pid}/status").splitlines())
        assert "0" not in status["Uid"].split()
        assert {status[key] for key in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    commands = machine.run("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ")
    assert ADMIN_KEY not in commands
    assert API_KEY not in commands


@pytest.mark.parametrize(("kind", "stopped"), [("grpc", [SERVER]), ("http", [GATEWAY, SERVER])])
def test_a_stop_answers_what_is_in_flight(kind: str, stopped: list[str], machine: Machine) -> None:
    answers = json.loads(machine.python(f"{ROOT}/tests/load.py", kind, API_KEY, *stopped))
    assert answers
    assert set(answers) == {BATCH if kind == "grpc" else CLASSES}
    for unit in stopped:
        machine.until(lambda unit=unit: machine.show(unit, "ActiveState") == ["inactive"])
        assert machine.show(unit, "Result", "ExecMainStatus") == ["success", "0"]


@pytest.mark.parametrize("number", ["KILL", "STOP"])
def test_a_server_that_dies_or_hangs_comes_back(number: str, machine: Machine) -> None:
    (before,) = machine.show(SERVER, "NRestarts")
    machine.run("pkill", f"-{number}", "-x", "tritonserver")
    machine.until(lambda: machine.show(SERVER, "NRestarts", "ActiveState") == [str(int(before) + 1), "active"])
    assert "%" in machine.classify()
    assert machine.run("ls", "/dev/shm") == ""


def test_what_no_restart_mends_stays_down(machine: Machine) -> None:
    machine.run("systemctl", "stop", SERVER)
    text = machine.run("cat", "/etc/build-repo/server.env")
    machine.write("/etc/build-repo/server.env", re.sub("(?m)^SERVE_REPOSITORY=.*", "SERVE_REPOSITORY=/nowhere", text))
    machine.run("systemctl", "start", SERVER, code=1)
    machine.write("/etc/build-repo/server.env", text)
    state = machine.show(SERVER, "ActiveState", "SubState", "ExecMainStatus", "NRestarts")
    assert state == ["failed", "failed", str(LaunchError.exit_code), "0"]
    assert "/nowhere does not exist; build it first" in machine.journal()
    assert machine.show(GATEWAY, "ActiveState") == ["active"]


def test_models_may_load_for_longer_than_a_start_may_take(empty: Machine) -> None:
    imports = "import time; from builder.machine import systemd as notify"
    script = f"{imports}\nwith notify.starting('x'): time.sleep(9)\nnotify.ready('y')"
    settings = {"Type": "notify", "TimeoutStartSec": "5", "Environment": f"PYTHONPATH={ROOT}"}
    command = ["systemd-run", "--wait", *(f"--property={name}={value}" for name, value in settings.items())]
    empty.run(*command, sys.executable, "-c", script)


def test_environment_files_are_read_as_they_were_meant(empty: Machine) -> None:
    values = {f"V{number}": f"{before}{sign}{after}" for number, (before, sign, after) in enumerate(ODD_TEXTS)}
    empty.write("/root/odd.env", "".join(f"{units.variable(*item)}\n" for item in values.items()))
    command = ["systemd-run", "--wait", "--pipe", "--quiet", "--property=EnvironmentFile=/root/odd.env", "env", "-0"]
    found = dict(entry.split("=", 1) for entry in empty.run(*command).split("\0") if entry)
    assert {name: found.get(name) for name in values} == values


SIGNS = [*(chr(code) for code in range(32, 127)), "\\\\", "$$", "%%", "\\n", "${HOME}", "é", "雪"]
ODD_TEXTS = [(before, sign, after) for sign in SIGNS for before in ("", "a") for after in ("", "b")]


def test_open_to_others_as_an_account_of_ones_own(empty: Machine, models: Path, options: Options) -> None:
    empty.run("sh", "-c", f"systemctl stop {GATEWAY} {SERVER}; rm -rf /root/units")
    gateway = Gateway(host="0.0.0.0", port=80, api_key=Path("/etc/build-repo/api.key"))
    install(empty, models, replace(options, user="triton", host="0.0.0.0", admin_key=None, gateway=gateway))
    for name in ("tritonserver", "repo-client"):
        assert empty.run("ps", "-o", "user=", "-C", name).strip() == "triton"
    assert "%" in empty.classify()
    assert len(ask_gateway(empty, API_KEY, 80)["predictions"]) == CLASSES
