"""One repository and one real server for all tests that only ask questions of them."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_triton import FakeTriton, serving
from filelock import FileLock
from settled import pytest_runtest_protocol as pytest_runtest_protocol  # a hook
from settled import settle

from builder.build.run import build_repository, resolve
from builder.data.images import SAMPLES
from builder.data.recipe import PreprocessRecipe
from builder.exporters import EXPORTERS
from builder.launchers import LAUNCHERS
from builder.launchers.options import LaunchOptions
from builder.machine import cores
from builder.manifest.models import load_manifest
from builder.types import BuiltModel, Endpoints, Target
from client import Client

cores.spin_briefly()  # as build-repo itself; three processes of tests share two cores

pytest_plugins = ["leftovers", "limits", "scheduling", "told", "tools", "warm"]

ANY_PORTS = LaunchOptions(http_port=0, grpc_port=0, metrics_port=0)
NETWORKS = Path(__file__).parent / "networks" / "small.py"
ADMIN_KEYS = ("REPO_CLIENT_ADMIN_KEY", "BUILD_REPO_ADMIN_KEY")
LABELS = ["cat", "dog", "other: thing"]

# What this machine can build for its CPU: every format, in every precision that it has instructions for.
VARIANTS = [
    (name, precision)
    for name, exporter in EXPORTERS.items()
    for precision in exporter.PRECISIONS["cpu"]
    if not exporter.refusal(Target(precision))
]


def model_of(format_name: str, precision: str) -> str:
    return f"{format_name}_model" if precision == "fp32" else f"{format_name}_{precision}_model"


# As the models' entries below say it.
RECIPE = PreprocessRecipe(channels=3, resize=(40,), crop=(32, 32), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))

# Untrained and calibrated on four photos, int8 is mostly noise; what is asked of these is that they are served.
ROUGH = "noise: 3, top1_agreement: 0"


def _entry(format_name: str, precision: str) -> str:
    return f"""
  {model_of(format_name, precision)}:
    network: small.py:small
    weights: random
    format: {format_name}
    precision: {precision}
    calibration: {SAMPLES}
    tolerance: {{{ROUGH if precision == "int8" else ""}}}
    labels: [cat, dog, "other: thing"]
    preprocess: {{channels: 3, resize: 40, crop: 32, mean: [0.5, 0.4, 0.3], std: [0.2, 0.25, 0.3]}}
"""


# Small networks of the user's own: a model a format and precision, and one without labels, of another recipe.
MANIFEST = f"""
models:{"".join(_entry(*variant) for variant in VARIANTS)}
  tags:
    network: small.py:small
    weights: random
    activation: sigmoid
    labels: [sharp, bright, far]
    preprocess: {{channels: 3, resize: 40, crop: 32, mean: [0.5, 0.4, 0.3], std: [0.2, 0.25, 0.3]}}
  one_tag:
    network: small.py:small
    arguments: {{num_classes: 1}}
    weights: random
    format: onnx
    activation: sigmoid
    labels: [bright]
    preprocess: {{channels: 3, resize: 40, crop: 32, mean: [0.5, 0.4, 0.3], std: [0.2, 0.25, 0.3]}}
  unlabelled:
    network: small.py:small
    arguments: {{channels: 1, num_classes: 4}}
    weights: random
    max_batch_size: 4
    preprocess: {{channels: 1, resize: [28, 36], interpolation: bicubic, max_bytes: 100000, max_pixels: 250000}}
"""


def write_manifest(folder: Path, text: str) -> Path:
    """A manifest in `folder`, with the small networks beside it."""
    shutil.copy(NETWORKS, folder / NETWORKS.name)
    path = folder / "models.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def build(folder: Path, text: str, repository: Path | None = None) -> list[BuiltModel]:
    """Build a manifest's text; the first failure is raised."""
    entries = resolve(load_manifest(write_manifest(folder, text)))
    outcome = build_repository(entries, repository or folder / "repository")
    settle()
    for failure in outcome.failed:
        raise failure.error
    return outcome.built


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Shared, by the processes that the tests run in, too: look, do not touch. Its path has a space on purpose."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "shared repository"
    with FileLock(f"{folder}.lock"):
        if not (folder / "built").exists():
            folder.mkdir()
            built = build(folder, MANIFEST)
            (folder / "built").write_bytes(pickle.dumps({model.name: model for model in built}))
    return folder / "repository"


@pytest.fixture(scope="session")
def shared_builds(repository: Path) -> dict[str, BuiltModel]:
    """What the builds of the shared repository told, by name."""
    found: dict[str, BuiltModel] = pickle.loads((repository.parent / "built").read_bytes())
    return found


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[Endpoints]:
    running = LAUNCHERS["embedded"].launch(repository, ANY_PORTS)
    yield running.endpoints
    running.stop()


@pytest.fixture(scope="session")
def client(server: Endpoints) -> Iterator[Client]:
    with Client(server.grpc) as connection:
        yield connection


@pytest.fixture
def fake() -> Iterator[tuple[FakeTriton, str]]:
    """A stand-in for Triton's gRPC side, which does as the test says, and its address."""
    with serving() as running:
        yield running


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT interrupts, whatever tests before have made of it in this process, or whoever started that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def _plain_environment() -> None:
    """What the user has set for their own servers is not for the tests'."""
    for name in ("REPO_CLIENT_URL", "REPO_CLIENT_CA", "REPO_CLIENT_CERT", "REPO_CLIENT_KEY", *ADMIN_KEYS):
        os.environ.pop(name, None)
