"""Units that systemd's own programs read: `verify`, `security`, and the parser of its manager."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import warm
from conftest import build
from fake_triton import FakeTriton
from gateways import gateway
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import started
from published import publish_model
from tools import program

from builder import errors
from builder.deploy import systemd, units
from builder.deploy.systemd import Environment, Gateway, Options, Ports, render, this_environment
from builder.errors import DeployError
from builder.launchers import embedded, keys
from builder.machine import systemd as notify
from builder.repository.served import read_repository
from builder.triton.advisories import EMBEDDED, Exposure, open_in
from builder.triton.control import Control
from client import errors as client_errors
from client.gateway.serve import GRACE_SECONDS

EXPOSURE = 30  # tenths
SMALL = """
models:
  mine:
    network: small.py:small
    weights: random
    format: onnx
    labels: [cat, dog, cow]
    preprocess: {channels: 3, resize: 40, crop: 32, mean: [0.5, 0.4, 0.3], std: [0.2, 0.25, 0.3]}
"""
KEY = Path("/etc/build-repo/some.key")
PLAIN = Options(Path("/srv/models"), Environment(Path(sys.prefix)))
CLOSED = replace(PLAIN, admin_key=KEY, gateway=Gateway("m", api_key=KEY, certificate=KEY, key=KEY, drain=20))
VARIANTS = {
    "plain": PLAIN,
    "keys": CLOSED,
    "user": replace(CLOSED, user="triton"),
    "gpu": replace(PLAIN, gpu=True),
    "gpu and keys": replace(CLOSED, gpu=True, user="triton"),
    "limits": replace(PLAIN, memory="8G", cpus=1.5),
    "home": replace(PLAIN, environment=this_environment((Path("/home/x y/py"),)), repository=Path("/root/m")),
    "open": replace(PLAIN, host="0.0.0.0", gateway=Gateway(host="::")),
    "to a network": replace(PLAIN, host="10.1.2.3", allow_from=("10.0.0.0/8", "fd00::/8")),
    "low ports": replace(PLAIN, ports=Ports(80, 81, 82), gateway=Gateway(port=443)),
    "alone": replace(PLAIN, gateway=None),
}


def of_systemd(name: str) -> str:
    return program(name, "apt-get install systemd", "systemd")


def written(files: dict[str, str], folder: Path) -> list[Path]:
    for name, text in files.items():
        (folder / name).write_text(text)
    return [folder / name for name in files if name.endswith(".service")]


def setting(unit: str, name: str) -> str:
    return re.search(rf"^{name}=(.*)$", unit, re.MULTILINE)[1]  # type: ignore[index]


@pytest.mark.systemd
@pytest.mark.parametrize("variant", VARIANTS)
def test_systemd_has_nothing_to_say(variant: str, tmp_path: Path) -> None:
    files = written(render(None, VARIANTS[variant]), tmp_path)
    done = subprocess.run(
        [of_systemd("systemd-analyze"), "verify", *files], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.systemd
@pytest.mark.parametrize("variant", VARIANTS)
def test_exposure(variant: str, tmp_path: Path) -> None:
    for unit in written(render(None, VARIANTS[variant]), tmp_path):
        command = [of_systemd("systemd-analyze"), "security", "--offline=true", f"--threshold={EXPOSURE}", unit]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout[-200:] + done.stderr


def test_a_stop_outlasts_the_drain() -> None:
    files = render(None, CLOSED)
    assert int(setting(files[systemd.SERVER], "TimeoutStopSec")) > 2 * embedded.GRACE_SECONDS + 5
    assert int(setting(files[systemd.GATEWAY], "TimeoutStopSec")) > 20 + GRACE_SECONDS


def test_restarts_are_for_what_they_mend() -> None:
    files = render(None, PLAIN)
    final = set(map(int, setting(files[systemd.SERVER], "RestartPreventExitStatus").split()))
    assert final == {2} | {
        kind.exit_code
        for kind in (errors.LaunchError, errors.ModelLoadError, errors.RepositoryError, errors.CheckError)
    }
    assert errors.ServerEnded.exit_code not in final
    final = set(map(int, setting(files[systemd.GATEWAY], "RestartPreventExitStatus").split()))
    assert final == {2, client_errors.InvalidInput.exit_code, client_errors.UnreadableFile.exit_code}


def test_gpus_are_for_models_that_need_them(tmp_path: Path) -> None:
    publish_model(tmp_path / "gpu", device="gpu")
    publish_model(tmp_path / "cpu", device="cpu", backend="pytorch")
    for device, closed in {"gpu": "no", "cpu": "yes"}.items():
        files = render(read_repository(tmp_path / device), PLAIN)
        assert setting(files[systemd.SERVER], "PrivateDevices") == closed
        assert setting(files[systemd.GATEWAY], "PrivateDevices") == "yes"


def test_ptrace_is_for_servers_with_a_key() -> None:
    beyond = replace(PLAIN, host="0.0.0.0")
    for options, allowed in ((PLAIN, False), (CLOSED, True), (beyond, True)):
        files = render(None, options)
        assert ("SystemCallFilter=ptrace" in files[systemd.SERVER]) == allowed
        assert "ptrace" not in files[systemd.GATEWAY]


def test_secrets_are_credentials() -> None:
    files = render(None, CLOSED)
    for unit, names in {systemd.SERVER: ["admin.key"], systemd.GATEWAY: ["api.key", "tls.crt", "tls.key"]}.items():
        assert re.findall(r"^LoadCredential=(.+):/etc/build-repo/some.key$", files[unit], re.MULTILINE) == names
        assert all(f"%d/{name}" in setting(files[unit], "ExecStart") for name in names)


BAD = {
    "relative": (replace(PLAIN, repository=Path("models")), "relative"),
    "prefix": (replace(PLAIN, environment=Environment(Path(".venv"))), "relative"),
    "key": (replace(PLAIN, gateway=Gateway(api_key=Path("k"))), "relative"),
    "user": (replace(PLAIN, user="the user"), "--user"),
    "memory": (replace(PLAIN, memory="much"), "--memory"),
    "cpus": (replace(PLAIN, cpus=0), "--cpus"),
    "any port": (replace(PLAIN, ports=Ports(0, 0, 0)), "another than 0"),
    "one port": (replace(PLAIN, gateway=Gateway(port=8000)), "8000 is given twice"),
    "network": (replace(PLAIN, allow_from=("10.0.0.0/33",)), "--allow-from"),
    "name of a host": (replace(PLAIN, host="gpu1", allow_from=("10.0.0.0/8",)), "in place of gpu1 with --host"),
    "no cores": (replace(PLAIN, cpus=float("nan")), "--cpus"),
    "no host": (replace(PLAIN, host=""), "it is empty"),
    "half of TLS": (replace(PLAIN, gateway=Gateway(certificate=KEY)), "--gateway-tls-key"),
    "no text": (replace(PLAIN, repository=Path("/srv/\udcff")), "another name"),
    "two lines": (replace(PLAIN, repository=Path("/srv/a\nExecStart=b")), "another name"),
    "quoted program": (replace(PLAIN, environment=Environment(Path("/srv/'"))), "--prefix"),
    "dropped end": (replace(PLAIN, admin_key=Path("/srv/a ")), "another name"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_run_is_refused(case: str) -> None:
    options, said = BAD[case]
    with pytest.raises(DeployError, match=re.escape(said)):
        render(None, options)


def test_a_model_of_others_is_refused(tmp_path: Path) -> None:
    publish_model(tmp_path, "mine")
    with pytest.raises(DeployError, match="no model yours; choose mine with --gateway-model"):
        render(read_repository(tmp_path), replace(PLAIN, gateway=Gateway("yours")))


# Any path that files can have, within what stands on one line of text.
NAMES = st.text(
    st.characters(exclude_categories=("C", "Z"), include_characters=" ", exclude_characters="/")
    | st.sampled_from(" %$\"'\\:;#")
).filter(lambda name: name not in ("", ".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: Path("/home", *names))
PROGRAM_PATHS = PATHS.filter(lambda path: not set("\"'\\") & set(str(path)))


def parsed(folder: Path, name: str) -> str:
    """What systemd's manager makes of a unit. It refuses to do so for root."""
    nobody = [] if os.geteuid() else ["setpriv", "--reuid=nobody", "--clear-groups"]
    command = [*nobody, of_systemd("systemd"), "--test", "--system", f"--unit={name}", "--no-pager"]
    environment = {"SYSTEMD_UNIT_PATH": f"{folder}:", "XDG_RUNTIME_DIR": str(folder), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=120)
    text = done.stdout.decode()
    return text[text.index(f"-> Unit {name}:") :].partition("\n\t-> Unit ")[0]


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A folder that nobody can read, too."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.systemd
@settings(max_examples=30, deadline=None)
@given(repository=PATHS, prefix=PROGRAM_PATHS, readable=PATHS)
def test_every_path_reaches_systemd_as_it_is(shared: Path, repository: Path, prefix: Path, readable: Path) -> None:
    options = replace(PLAIN, repository=repository, environment=Environment(prefix, (readable,)))
    written(render(None, options), shared)
    found = parsed(shared, systemd.SERVER)
    assert f"RequiresMountsFor: {repository} (origin-file)" in found
    for path in (repository, prefix, readable):
        assert f"BindReadOnlyPaths: {path}:{path}:rbind" in found
    line = re.search(r"Command Line: (.*)", found)[1]  # type: ignore[index]
    words = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    assert words.splitlines()[:4] == [f"{prefix}/bin/build-repo", "serve", "--repository", "${SERVE_REPOSITORY}"]


@settings(max_examples=60, deadline=None)
@given(st.lists(NAMES, min_size=1))
def test_every_value_reaches_the_environment_as_it_is(values: list[str]) -> None:
    lines = [units.variable(f"V{number}", value) for number, value in enumerate(values)]
    script = "\n".join([*lines, *(f"printf '%s\\n' \"$V{number}\"" for number in range(len(values)))])
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split("\n")[:-1] == values


def deploy(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return warm.run("builder", "deploy", "systemd", *arguments)


def test_the_command_writes_them_all_or_none(tmp_path: Path) -> None:
    publish_model(tmp_path / "models", device="cpu", backend="pytorch")
    given_ = ("-r", tmp_path / "models", "-o", tmp_path / "out")
    done = deploy(*given_, "--user", "triton", "--json")
    assert done.returncode == 0, done.stderr
    names = {systemd.SERVER, systemd.GATEWAY, "server.env", "gateway.env", "build-repo.conf", "README.md"}
    assert set(json.loads(done.stdout)["written"]) == names
    assert json.loads(done.stdout)["advisories"] == []
    assert "published holes" not in done.stderr
    assert "stay on loopback" not in (tmp_path / "out" / "README.md").read_text()
    assert f'SERVE_REPOSITORY="{tmp_path}/models"' in (tmp_path / "out" / "server.env").read_text()
    (tmp_path / "out" / "server.env").write_text("# mine")
    done = deploy(*given_)
    assert done.returncode == DeployError.exit_code
    assert "--force" in done.stderr
    assert (tmp_path / "out" / "build-repo.conf").exists()


def test_beyond_loopback_the_command_says_what_is_open(tmp_path: Path) -> None:
    publish_model(tmp_path / "models", device="cpu", backend="pytorch")
    done = deploy("-r", tmp_path / "models", "-o", tmp_path / "out", "--host", "0.0.0.0", "--json")
    assert json.loads(done.stdout)["advisories"] == [entry.cve for entry in open_in(EMBEDDED, Exposure(grpc=True))]
    (line,) = [line for line in done.stderr.splitlines() if "published holes" in line]
    assert "open to whoever reaches 0.0.0.0" in line
    assert line.endswith("plain HTTP stays on loopback unless --http-host moves it")
    assert "stay on loopback" in (tmp_path / "out" / "README.md").read_text()


def test_a_repository_that_is_none_is_said(tmp_path: Path) -> None:
    done = deploy("-r", tmp_path, "-o", tmp_path / "out")
    assert done.returncode == errors.RepositoryError.exit_code
    assert not (tmp_path / "out").exists()


class Manager:
    """The end of a notification socket that systemd has."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.settimeout(120)

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def hear(self) -> dict[str, str]:
        lines = self._socket.recv(65536).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)  # type: ignore[misc]

    def hear_until(self, name: str) -> list[dict[str, str]]:
        heard = [self.hear()]
        while name not in heard[-1]:
            heard.append(self.hear())
        return heard

    def environment(self, **more: str) -> dict[str, str]:
        return os.environ | {"NOTIFY_SOCKET": self.address} | more


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    build(folder, SMALL)
    return folder / "repository"


@contextlib.contextmanager
def served(models: Path, manager: Manager) -> Iterator[subprocess.Popen[str]]:
    """`build-repo serve` as systemd starts it; it must have ended when the block is left."""
    command = [sys.executable, "-m", "builder", "serve", "-r", models, "--json"]
    command += [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
    environment = manager.environment(WATCHDOG_USEC="3000000")
    with started(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.wait(120)


def test_the_server_says_when_all_models_are_ready(models: Path, tmp_path: Path) -> None:
    with Manager(str(tmp_path / "notify")) as manager, served(models, manager) as process:
        *before, ready = manager.hear_until("READY")
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["http"]
        assert {model["state"] for model in Control(address, keys.of(address)).index()} == {"READY"}
        assert before[0] == {"STATUS": f"loading the models of {models}"}
        assert int(before[1]["EXTEND_TIMEOUT_USEC"]) >= 30_000_000
        assert address in ready["STATUS"]
        manager.hear_until("WATCHDOG")
        process.terminate()
        manager.hear_until("STOPPING")
    assert process.returncode == 0


def test_a_server_that_cannot_start_is_never_ready(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    command = [sys.executable, "-m", "builder", "serve", "-r", tmp_path / "models"]
    with Manager(str(tmp_path / "notify")) as manager:
        done = subprocess.run(command, env=manager.environment(), capture_output=True, timeout=60)
        assert done.returncode == errors.LaunchError.exit_code
        assert list(manager.hear()) == ["STATUS"]


def test_the_gateway_says_when_it_listens(
    fake: tuple[FakeTriton, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Manager(f"@{tmp_path}") as manager:  # an abstract one
        for name, value in manager.environment(WATCHDOG_USEC="3000000").items():
            monkeypatch.setenv(name, value)
        with gateway(fake[1]) as url:
            (ready,) = manager.hear_until("READY")
            assert url in ready["STATUS"]
            with urllib.request.urlopen(f"{url}/healthz") as answer:
                assert answer.status == 200
            manager.hear_until("WATCHDOG")
            manager.hear_until("WATCHDOG")
        manager.hear_until("STOPPING")


def test_a_server_that_hangs_is_silent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers, hung = iter([True, True]), threading.Event()

    def is_live() -> bool:
        if next(answers, False):
            return True
        hung.set()
        return False

    with Manager(str(tmp_path / "notify")) as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        monkeypatch.setenv("WATCHDOG_USEC", "30000")
        with notify.watched(is_live):
            assert hung.wait(60)
        notify.ready("done")
        assert [list(manager.hear()) for _ in range(3)] == [["WATCHDOG"], ["WATCHDOG"], ["READY", "STATUS"]]


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}],
    ids=str,
)
def test_no_watchdog_of_ones_own(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert notify.watchdog_seconds() is None


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@nobody", "vsock:2:1234", "relative"])
def test_nobody_need_listen(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with contextlib.ExitStack() as stack:
        stack.enter_context(notify.starting("loading"))
        notify.ready("done")
