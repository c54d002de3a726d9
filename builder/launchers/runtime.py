"""The folder from which an embedded server runs: its backends, their stub, and their libraries."""

from __future__ import annotations

import importlib.util
import os
import platform
import py_compile
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import ConfigError, LaunchError
from builder.launchers import access, needs, sharing
from builder.launchers.snapshot import Snapshot
from builder.machine import cores
from builder.repository import lock
from builder.repository.layout import CONFIG
from builder.triton import advisories, model_config
from builder.triton.adapting import adapt, lower

RUNTIMES = Path(__file__).parent.parent / "runtimes"
SHARED_CODE = "named_tensors.py"
"""That the backends' models import from beside them."""
PYTHON_BACKEND = "python"
BACKENDS_VARIABLE = "BUILD_REPO_BACKENDS"
# The models' code runs with the environment that the server has.
SECRETS = (access.ENVIRONMENT, "REPO_CLIENT_ADMIN_KEY")
ANY_BATCH = sys.maxsize
STUB = "triton_python_backend_stub"
ELSEWHERE = (
    "serve the same repository with NVIDIA's image, or make one for such machines: build-repo serve --launcher docker, "
    "build-repo image"
)


@dataclass(frozen=True)
class Runtime:
    """What a server runs from; all but the binary goes with it."""

    folder: Path
    """That all the rest is in: backends, libraries, models, and room for temporary files."""
    binary: Path
    """tritonserver itself, in the wheel."""
    snapshot: Snapshot
    """The repository of one moment, with configs that this server runs well."""
    backends: Path
    """A folder a backend, as tritonserver's --backend-directory takes it."""
    environment: dict[str, str]
    """Environment variables for the server, without the secrets of this process."""


def make_runtime(
    repository: Path, verify_integrity: bool = True, judge: Callable[[Path, str | None], None] = lambda *_: None
) -> Runtime:
    """Lay the folder out. With `verify_integrity`, every file has the digest that its lock records.

    `judge` is called with the models and the server's version. Raises LaunchError where the server cannot run,
    RepositoryError, and what `judge` raises.
    """
    wheel = _wheel()
    _require_old_numpy()
    folder, snapshot = _temporary_folder(), None
    try:
        backends = _lay_out(folder)
        snapshot = take_snapshot(repository.absolute(), folder / "models")
        if verify_integrity:
            # The snapshot, not the repository: what is verified is then what is served, whatever a build does.
            lock.require_intact(snapshot.folder, repository)
        _require_shared_memory(snapshot.folder)
        prepare(snapshot.folder, snapshot.folder)
        judge(snapshot.folder, advisories.EMBEDDED)
        snapshot.stamp(snapshot.entries)
    except BaseException:
        if snapshot:
            snapshot.close()
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Runtime(folder, _binary(wheel), snapshot, backends, _environment(folder, wheel))


@contextmanager
def adapted(repository: Path) -> Iterator[Path]:
    """The repository as this server would be given it, as long as that lasts. Raises LaunchError."""
    folder, snapshot = _temporary_folder(), None
    try:
        snapshot = take_snapshot(repository.absolute(), folder / "models")
        prepare(snapshot.folder, snapshot.folder)
        yield snapshot.folder
    finally:
        if snapshot:
            snapshot.close()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Bare:
    """What a server runs from that is given its own repository and backends."""

    folder: Path
    binary: Path
    backends: Path
    environment: dict[str, str]


@contextmanager
def bare() -> Iterator[Bare]:
    """As long as it lasts. Raises LaunchError where the server cannot run."""
    wheel = _wheel()
    folder = _temporary_folder()
    try:
        backends = _lay_out(folder)
        yield Bare(folder, _binary(wheel), backends, _environment(folder, wheel))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binary(wheel: Path) -> Path:
    return wheel / "pytriton" / "tritonserver" / "bin" / "tritonserver"


def _lay_out(folder: Path) -> Path:
    """All but the models; the folder of the backends."""
    laid_out = os.environ.get(BACKENDS_VARIABLE)
    backends = Path(laid_out) if laid_out else lay_out_backends(folder / "backends")
    (folder / "lib").mkdir()
    (folder / "tmp").mkdir()
    (folder / "lib" / _libpython_name()).symlink_to(find_libpython())
    return backends


def prepare(new: Path, models: Path) -> None:
    """Have models that are to come beside those that are there run well in this server."""
    _adapt_configs(new, models)
    _compile_steps(new)


def _wheel() -> Path:
    if not (sys.platform == "linux" and platform.machine() == "x86_64"):
        raise LaunchError(
            f"the embedded server's wheel is for Linux on x86-64, this is {sys.platform} on {platform.machine()}; "
            f"{ELSEWHERE}"
        )
    found = importlib.util.find_spec("pytriton")
    if found is None or not found.submodule_search_locations:
        raise LaunchError("the embedded server is not installed; run: pip install 'triton-build-repo[serve]'")
    return Path(found.submodule_search_locations[0]).parent


def _require_old_numpy() -> None:
    import numpy

    if int(numpy.__version__.split(".")[0]) >= 2:
        raise LaunchError(
            f"NumPy {numpy.__version__} silently corrupts tensors in this server; run: pip install 'numpy<2'"
        )


def _temporary_folder() -> Path:
    """Where TMPDIR says, unless the server's shell would read its path otherwise."""
    folder = tempfile.mkdtemp(prefix="build-repo-")
    if any(character.isspace() or character in "'\"$`;&|()<>*?\\" for character in folder):
        Path(folder).rmdir()
        folder = tempfile.mkdtemp(prefix="build-repo-", dir="/tmp")
    return Path(folder)


def lay_out_backends(backends: Path) -> Path:
    """The folder, new, with what the server needs to run the backends. Raises LaunchError.

    An image has it already, and names it in BACKENDS_VARIABLE: it runs where nothing that was written may be executed.
    """
    server = _wheel() / "pytriton" / "tritonserver"
    stub = server / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}" / STUB
    if not stub.exists():
        raise LaunchError(f"the embedded server has no stub for Python {platform.python_version()}; use 3.11 or 3.12")
    python = backends / PYTHON_BACKEND
    python.mkdir(parents=True)
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        # Copied: the server refuses a library that a link leads out of the backend directory.
        shutil.copy(server / "backends" / "python" / name, python / name)
    (python / STUB).symlink_to(stub)
    for runtime in RUNTIMES.iterdir():
        if (runtime / "model.py").exists():
            (backends / runtime.name).mkdir()
            for code in (runtime / "model.py", RUNTIMES / SHARED_CODE):
                shutil.copy(code, backends / runtime.name / code.name)
    return backends


def take_snapshot(repository: Path, folder: Path) -> Snapshot:
    """Raises LaunchError. The folder's path, unlike the repository's, holds nothing that a shell would read.

    The server hands paths to a shell unquoted. Its own files, such as __pycache__, stay out of the repository, too.
    """
    try:
        return Snapshot(repository, folder)
    except OSError as error:
        raise LaunchError(f"{repository} cannot be served: {error}") from None


def _require_shared_memory(models: Path) -> None:
    needed = needs.of(models)
    if lack := sharing.lack(needed.workers, needed.bytes, sharing.free()):
        raise LaunchError(lack)


def _adapt_configs(new: Path, models: Path) -> None:
    """Have this server run the models well.

    It is older than queue policies that lose no wake-ups, and does without.
    A batch passes through shared memory whole: where there is little, a step gathers no larger ones than it must take.
    """
    is_scarce = sharing.is_scarce(needs.of(models).workers, sharing.free())
    largest = _asked_at_once(models) | _asked_at_once(new) if is_scarce else {}
    for path in new.glob(f"*/{CONFIG}"):
        _adapt_config(path, largest.get(path.parent.name))


def _asked_at_once(models: Path) -> dict[str, int]:
    """The largest batch that an ensemble asks of each of its steps; one that does not batch may ask any of them."""
    largest: dict[str, int] = {}
    for ensemble in _configs(models).values():
        for step in ensemble.ensemble_scheduling.step:
            largest[step.model_name] = max(largest.get(step.model_name, 1), ensemble.max_batch_size or ANY_BATCH)
    return largest


def _compile_steps(models: Path) -> None:
    """Have __pycache__ there before the server looks: if it came later, the server would load the step once more."""
    for code in models.glob("*/*/*.py"):
        with suppress(py_compile.PyCompileError, OSError):  # the server will say what is wrong with it
            py_compile.compile(str(code), doraise=True)


def _adapt_config(path: Path, largest: int | None) -> None:
    try:
        model = model_config.read(path)
    except (OSError, ConfigError):
        return  # the server will say what is wrong with it
    before = model.SerializeToString()
    adapt(model, advisories.EMBEDDED)
    if largest is not None:
        lower(model, largest)
    if model.SerializeToString() != before:
        path.unlink()  # a long one is a link
        path.write_text(model_config.to_text(model), encoding="utf-8")


def _configs(models: Path) -> dict[Path, Any]:
    """By folder, those that can be read; of the others the server will say what is wrong."""
    found: dict[Path, Any] = {}
    for path in models.glob(f"*/{CONFIG}"):
        with suppress(OSError, ConfigError):
            found[path.parent] = model_config.read(path)
    return found


def _libpython_name() -> str:
    return f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"


def find_libpython() -> Path:
    """This interpreter's shared library, which the stub embeds. Raises LaunchError."""

    name = _libpython_name()
    folders = [sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("LIBPL"), f"{sys.base_prefix}/lib"]
    folders += ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"]
    for folder in folders:
        if folder and (Path(folder) / name).exists():
            return Path(folder) / name
    short = f"python{sys.version_info.major}.{sys.version_info.minor}"
    raise LaunchError(
        f"{name} was not found (looked in {', '.join(filter(None, folders))}); the embedded server needs it: "
        f"apt-get install lib{short}, or use a Python built with --enable-shared"
    )


def _environment(folder: Path, wheel: Path) -> dict[str, str]:
    """The stub takes its packages from the first python3 on PATH, so this environment's comes first."""
    libraries = [str(folder / "lib"), str(wheel / "nvidia_pytriton.libs"), os.environ.get("LD_LIBRARY_PATH", "")]
    # Threads that spin for long take the cores from the other steps of the same server.
    defaults = {} if "OMP_WAIT_POLICY" in os.environ else {cores.SPIN: cores.SPINS}
    own = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
        # What models' code makes there, as AOTInductor's unpacks itself, goes with the rest when it is killed.
        "TMPDIR": str(folder / "tmp"),
    }
    return {name: value for name, value in (defaults | os.environ | own).items() if name not in SECRETS}
