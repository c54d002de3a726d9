"""What a run leaves behind when it is over: processes, shared memory, temporary folders, containers, networks.

A plugin of pytest's, for the process that controls a run. Whatever the run starts carries its MARK, and makes its
temporary files in a folder of the run's own, so that nothing is blamed on it that others on the machine do. What is
left is told and taken away, and the run has failed.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from processes import carrying, descendants, is_alive, kill_all

from builder.launchers.docker_settings import REPOSITORY_LABEL as SERVED

MARK = "BUILD_REPO_TEST_RUN"
"""A variable: the run's name. A run within a run is named below it."""
Remove = Callable[[], object]
SHARED_MEMORY = Path("/dev/shm")
OURS = ("build-repo-", "repo-client-", "psm_", "sem.mp-")
"""How names in shared memory begin that the product and Python's multiprocessing make."""
WORKERS = ("pytest", "execnet", "builder", "client.cli", "build-repo", "repo-client", "tritonserver")
"""Words in the commands of processes that may make such names."""
GRACE_S = 15
"""What has been told to end may take a moment."""
DOCKER = "/var/run/docker.sock"
CACHE = f"torchinductor_{getpass.getuser()}"
"""PyTorch's compiler keeps it in the folder for temporary files, as docs/start.md says."""
OF_LIBRARIES = ("pymp-", "torchelastic_")
"""Folders of multiprocessing's and torchrun's, which do not remove them when a test kills their processes."""
HELPERS = ("multiprocessing.resource_tracker", "torch/_inductor/compile_worker")
"""Processes that end with the one whose children they are."""


@dataclass(frozen=True)
class Run:
    name: str
    folder: Path
    """Its temporary files."""
    memory: frozenset[str]
    """What was shared before it began."""


RUN = pytest.StashKey[Run]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("leftovers_grace", "seconds until what has not ended is left behind", default=str(GRACE_S))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Before anything is started, workers included."""
    if not hasattr(config, "workerinput"):
        run = config.stash[RUN] = begin()
        config.add_cleanup(lambda: shutil.rmtree(run.folder, ignore_errors=True))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """After everything else, when the workers have ended."""
    run = session.config.stash.get(RUN, None)
    results = run and session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    yield
    if run and (left := end(run, results, float(session.config.getini("leftovers_grace")))):
        reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
        reporter.ensure_newline()
        reporter.section("left behind by this run", red=True)
        reporter.write("".join(f"{line}\n" for line in left))
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def begin() -> Run:
    """Mark this process, and by it all that it will start."""
    usual = Path(tempfile.gettempdir())
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(usual))  # of the results of the last runs
    name = "/".join(filter(None, [os.environ.get(MARK), secrets.token_hex(4)]))
    # Short, since paths of sockets begin with it; open to the other users that some tests run programs as.
    folder = Path(tempfile.mkdtemp(prefix="tests-", dir=usual if len(str(usual)) < 30 else "/tmp"))
    folder.chmod(0o755)
    share(usual / CACHE, folder)
    os.environ |= {MARK: name, "TMPDIR": str(folder)}
    tempfile.tempdir = None  # to be found anew
    return Run(name, folder, frozenset(in_memory()))


def share(cache: Path, folder: Path) -> None:
    """What is kept from run to run; part of it heeds no TORCHINDUCTOR_CACHE_DIR."""
    cache.mkdir(exist_ok=True)
    (folder / cache.name).symlink_to(cache)


def end(run: Run, results: Path, grace: float) -> list[str]:
    """What is left of it, line by line, and is taken away by now; `results` is pytest's folder, where tmp_path is."""
    with ExitStack() as stack:
        docker = engine(stack)
        deadline = time.monotonic() + grace
        while (left := here(run) | in_docker(docker, run, results)) and time.monotonic() < deadline:
            time.sleep(0.1)
        kill_all(lambda: processes(run))
        for remove in left.values():
            remove()
    shutil.rmtree(run.folder, ignore_errors=True)
    return sorted(left)


def here(run: Run) -> dict[str, Remove]:
    """Each thing in a line, and what takes it away."""
    found: dict[str, Remove] = {f"process {pid}: {command(pid)}": lambda: None for pid in processes(run)}
    for name in set() if others_work(run) else in_memory() - run.memory:
        found[f"shared memory: {SHARED_MEMORY / name}"] = partial((SHARED_MEMORY / name).unlink, missing_ok=True)
    ours = [path for path in run.folder.iterdir() if path.name != CACHE and not path.name.startswith(OF_LIBRARIES)]
    return found | {f"temporary: {path}": lambda: None for path in ours}


def processes(run: Run) -> set[int]:
    """By the mark, and, of this process's own, those that have cast it off."""
    own = {pid for pid in descendants(os.getpid()) if is_alive(pid)}
    helpers = {pid for pid in own if any(name in command(pid) for name in HELPERS)}
    return (carrying(MARK, run.name) | own) - helpers - {os.getpid()}


def command(pid: int) -> str:
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).replace("\0", " ").strip()
    except OSError:
        return ""


def in_memory() -> set[str]:
    names = {path.name for path in SHARED_MEMORY.iterdir()} if SHARED_MEMORY.exists() else set()
    return {name for name in names if name.startswith(OURS)}


def others_work(run: Run) -> bool:
    """Whether something else runs that shares memory under such names: whose it is could not be told then."""
    own = processes(run) | set(ancestors(os.getpid()))
    others = {int(path.name) for path in Path("/proc").glob("[0-9]*")} - own
    return any(word in command(pid) for pid in others for word in WORKERS)


def ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        yield pid
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def engine(stack: ExitStack) -> Any:
    """A client of Docker's, or None where no engine runs."""
    from builder.errors import EngineError
    from builder.machine.docker import connect

    with socket.socket(socket.AF_UNIX) as probe:
        if "DOCKER_HOST" not in os.environ and probe.connect_ex(DOCKER):
            return None
    try:
        client = connect()
    except EngineError:
        return None
    stack.callback(client.close)
    return client


def in_docker(client: Any, run: Run, results: Path) -> dict[str, Remove]:
    """Containers and networks that bear the run's name, or serve a repository that a test has made."""
    if client is None:
        return {}
    containers = client.containers.list(all=True, ignore_removed=True)
    networks = [one for one in client.networks.list() if one.name.startswith(docker_name(run.name))]
    found: dict[str, Remove] = {f"network: {one.name}": one.remove for one in networks}
    for one in containers:
        if one.name.startswith(docker_name(run.name)) or Path(one.labels.get(SERVED, "")).is_relative_to(results):
            found[f"container: {one.name}"] = partial(one.remove, force=True)
    return found


def docker_name(run: str) -> str:
    """How names in Docker begin of all that a run makes."""
    return f"build-repo-test-{run.replace('/', '-')}"
