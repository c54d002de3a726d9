"""Builds on a real Ray cluster on this machine: nodes that die, GPUs that are only declared, and what is refused.

No plan is built here, for want of a GPU; where two generations are merged, files stand in for plans.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import on_nodes
import pytest
from conftest import NETWORKS, write_manifest
from PIL import Image
from processes import carrying, is_alive, kill_all, started
from same import content
from tools import missing, needs
from waiting import until

from builder.build.entry import Entry
from builder.build.run import build_repository, resolve
from builder.errors import ClusterError, ExportError, ManifestError, NetworkError, WeightsError
from builder.executors.ray import Options, build_on_cluster, worker
from builder.executors.ray.parcels import pack
from builder.executors.ray.storage import Storage, run_in
from builder.executors.ray.tasks import Node, tasks_of
from builder.manifest.models import load_manifest
from builder.repository import lock, staging
from builder.triton import model_config

ROOT = Path(__file__).parent.parent
RECIPE = "preprocess: {channels: 3, resize: 40, crop: 32}"
TENSORRT = "{weights: random, format: tensorrt, device: gpu, precision: fp16}"


def plans_of(folder: Path, text: str) -> list[Entry]:
    shutil.copy(NETWORKS.parent / "ending.py", folder)
    return resolve(load_manifest(write_manifest(folder, text)))


# Without a cluster: what is packed and shipped, and what each task asks for


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with run_in(str(tmp_path / "storage")) as run:
        yield run


def test_everything_that_entries_name_is_packed_and_lies_where_it_lay(tmp_path: Path, storage: Storage) -> None:
    """Paths above the manifest and absolute ones included; what is not used is not packed."""
    import torch

    project, data = tmp_path / "project", tmp_path / "data"
    for folder in (project / "nets", data / "cat", data / "dog"):
        folder.mkdir(parents=True)
    shutil.copy(NETWORKS, project / "nets" / "mine.py")
    sys.path.insert(0, str(NETWORKS.parent))
    import small

    torch.save(small.already_trained().state_dict(), tmp_path / "weights.pth")
    (project / "labels.txt").write_text("a\ncat\ndog\n")
    for number in range(6):
        Image.new("RGB", (50, 50), (40 * number, 0, 0)).save(data / ("cat", "dog")[number % 2] / f"{number}.png")
    entry = f"network: nets/mine.py:small, weights: ../weights.pth, labels: labels.txt, {RECIPE}"
    text = (
        f"models:\n  m: {{{entry}, format: onnx, precision: int8, calibration: {{data: {data}, samples: 2}}, "
        f"images: {{data: ../data, samples: 4}}, tolerance: {{noise: 9, top1_agreement: 0, accuracy_loss: 1}}}}\n"
    )
    (only,) = plans_of(project, text)
    known: set[str] = set()
    parcel = pack(only, storage, [], known)
    shown = {item.place for item in parcel.items}
    pictures = {place for place in shown if place.startswith("../data/")}
    assert shown - pictures == {"nets/mine.py", "../weights.pth", "labels.txt"}
    assert len(pictures) == 4  # those that calibrate are among those that verify
    again = pack(only, Storage(str(tmp_path / "nowhere")), [], known)  # what is there is not put there again
    assert again == parcel
    assert not (tmp_path / "nowhere").exists()
    job = worker.Job("results/m", parcel, storage, worker.versions([only]))
    # Only the parcel reaches a node.
    for path in (project / "nets", data):
        path.rename(path.with_name(f"{path.name} is away"))
    (tmp_path / "weights.pth").rename(tmp_path / "away.pth")
    built = worker.run(job)
    assert isinstance(built, worker.Built), built
    storage.fetch(built.shipment, tmp_path / "fetched")
    for path in (project / "nets", data):
        path.with_name(f"{path.name} is away").rename(path)
    (tmp_path / "away.pth").rename(tmp_path / "weights.pth")
    serial = build_repository([only], tmp_path / "local")
    assert replace(serial.built[0], seconds=0) == replace(built.model, seconds=0)
    assert content(tmp_path / "fetched") == content(tmp_path / "local")


def test_errors_of_a_node_name_the_paths_of_this_machine(tmp_path: Path, storage: Storage) -> None:
    (lost,) = plans_of(tmp_path, "models:\n  lenet: {weights: lost.pth}\n")
    result = worker.run(worker.Job("r", pack(lost, storage, [], set()), storage, {}))
    assert isinstance(result, WeightsError)
    assert f"the weights file {tmp_path}/lost.pth does not exist" in str(result)


def test_what_the_users_code_opens_is_packed_if_it_is_named(tmp_path: Path, storage: Storage) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "table.csv").write_text("1")
    (one,) = plans_of(tmp_path, f"models:\n  m: {{network: small.py:small, weights: random, {RECIPE}}}\n")
    places = [item.place for item in pack(one, storage, ["more", "ending.py"], set()).items]
    assert places == ["ending.py", "more/table.csv", "small.py"]
    with pytest.raises(ManifestError, match="to be packed along, does not exist; paths of --pack"):
        pack(one, storage, ["lost"], set())


@pytest.mark.parametrize("damage", ["file", "list", "missing"])
def test_shipment_that_was_changed_is_not_fetched(damage: str, tmp_path: Path, storage: Storage) -> None:
    (tmp_path / "folder" / "1").mkdir(parents=True)
    (tmp_path / "folder" / "1" / "model").write_bytes(b"weights")
    shipment = storage.ship(tmp_path / "folder", "results/m")
    there = Path(storage.uri) / shipment.key
    assert not list(there.rglob("*.partial"))
    storage.fetch(shipment, tmp_path / "whole")
    assert (tmp_path / "whole" / "1" / "model").read_bytes() == b"weights"
    if damage == "missing":
        (there / "complete.json").unlink()
    else:
        (there / {"file": "files/1/model", "list": "complete.json"}[damage]).write_bytes(b"other")
    with pytest.raises(ClusterError, match=r"is not what was put there|cannot be read from"):
        storage.fetch(shipment, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


def test_run_leaves_nothing_in_the_storage(tmp_path: Path) -> None:
    def interrupted() -> None:
        with run_in(str(tmp_path / "storage")) as run:
            run.put_text("x", "objects/1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list((tmp_path / "storage").iterdir()) == []


@pytest.mark.parametrize("uri", ["file", "nosuch://bucket/key"])
def test_storage_that_cannot_be_used(uri: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    place = uri if "://" in uri else str(tmp_path / uri)
    with pytest.raises(ClusterError, match=r"cannot be written to .* name one with --storage"), run_in(place):
        pass


def test_storage_that_a_node_does_not_see(tmp_path: Path, storage: Storage) -> None:
    (one,) = plans_of(tmp_path, "models:\n  lenet: {weights: random}\n")
    job = worker.Job("r", pack(one, storage, [], set()), Storage(str(tmp_path / "other")), {}, node="n7")
    result = worker.run(job)
    assert isinstance(result, ClusterError)
    assert f"on node n7, the storage {tmp_path / 'other'} cannot be read from" in str(result)


CPU_NODE = Node("a", "10.0.0.1", {"CPU": 8.0})
H100_NODE = Node("b", "10.0.0.2", {"CPU": 4.0, "GPU": 8.0, "accelerator_type:H100": 1.0})
L4_NODE = Node("c", "10.0.0.3", {"CPU": 4.0, "GPU": 1.0, "accelerator_type:L4": 1.0})
H200_NODE = Node("d", "10.0.0.4", {"CPU": 4.0, "GPU": 1.0, "accelerator_type:H200": 1.0})
THREE = f"""models:
  plan: {{network: lenet, {TENSORRT[1:]}
  lenet: {{weights: random}}
  gpu: {{network: lenet, weights: random, device: gpu}}
"""


def test_tasks_are_one_a_model_and_generation(tmp_path: Path) -> None:
    plans = plans_of(tmp_path, THREE)
    tasks = tasks_of(plans, [CPU_NODE, H100_NODE, L4_NODE], Options("s", cpus=2))
    assert [(task.name, task.cpus, task.accelerator) for task in tasks] == [
        ("plan on H100", 2, "H100"),
        ("plan on L4", 2, "L4"),
        ("lenet", 2, None),
        ("gpu on H100", 2, "H100"),
    ]
    assert tasks[0].resources == {"CPU": 2.0, "GPU": 1.0, "accelerator_type:H100": 0.001}
    named = tasks_of(plans, [CPU_NODE, H100_NODE, L4_NODE], Options("s", accelerators=("L4",)))
    assert [task.accelerator for task in named] == ["L4", None, "L4"]


@pytest.mark.parametrize(
    ("nodes", "options", "message"),
    [
        ([CPU_NODE], Options("s"), "plan is for GPUs, and no node"),
        (
            [H100_NODE],
            Options("s", accelerators=("L4",)),
            r"plan on L4: it needs 1 CPU, a GPU .* with 4 CPU and 8 GPU \(H100\)",
        ),
        ([H100_NODE], Options("s", cpus=5), "it needs 5 CPUs"),
        ([H100_NODE, H200_NODE], Options("s"), "H100 and H200, which share compute capability 9.0"),
        ([], Options("s", accelerators=("L4",)), "the cluster has no nodes"),
    ],
)
def test_what_the_cluster_lacks_is_told_before_anything_waits(
    nodes: list[Node], options: Options, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ClusterError, match=message):
        tasks_of(plans_of(tmp_path, THREE), nodes, options)


def build_repo(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "builder", *map(str, arguments)]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)
    assert "Traceback" not in finished.stderr, finished.stderr
    return finished


def test_command_line_refuses_what_does_not_go_together(tmp_path: Path) -> None:
    write_manifest(tmp_path, "models:\n  lenet: {weights: random}\n")
    assert "needs --storage" in build_repo(tmp_path, "--executor", "ray").stderr
    assert "--jobs is of --executor local" in build_repo(tmp_path, "--engine", "ray", "--storage", "s", "-j", 2).stderr
    assert "are of --executor ray" in build_repo(tmp_path, "--storage", "s").stderr


@pytest.mark.ray
def test_no_cluster_answers(tmp_path: Path) -> None:
    require_ray()
    write_manifest(tmp_path, "models:\n  lenet: {weights: random}\n")
    finished = build_repo(tmp_path, "--executor", "ray", "--ray-address", "127.0.0.1:1", "--storage", "s")
    assert finished.returncode == ClusterError.exit_code
    assert "no Ray cluster answers at 127.0.0.1:1" in finished.stderr
    assert not (tmp_path / "s").exists()


def test_ray_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"pip install 'triton-build-repo\[ray\]'"):
        build_on_cluster(plans_of(tmp_path, "models:\n  lenet: {weights: random}\n"), tmp_path / "r", Options("s"))


# On a cluster


class Nodes:
    """A cluster of this machine's, of a head and what the tests add to it."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.common: dict[str, Any] = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
        # A node that is killed refuses to answer, and is noticed within seconds; one that is only slow is not given up.
        noticed = {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 1000,
            "health_check_timeout_ms": 10_000,
            "health_check_failure_threshold": 4,
        }
        head = {"num_cpus": 2, "_system_config": noticed} | self.common
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address: str = self.cluster.address

    def add(self, **arguments: Any) -> Any:
        """Ray gives a node 30 seconds to begin, which a machine that tests other things too may not have for it."""
        for _ in range(4):
            with contextlib.suppress(Exception):  # Ray's own has no name
                return self.cluster.add_node(**(self.common | arguments))
        return self.cluster.add_node(**(self.common | arguments))

    def kill(self, node: Any) -> None:
        """With SIGKILL, its workers too."""
        self.cluster.remove_node(node, allow_graceful=False)


CLUSTER = "BUILD_REPO_TEST_CLUSTER"
"""A variable that all processes of a cluster have, and its folder as the value."""


@contextlib.contextmanager
def cluster(make: Callable[[], Nodes] = Nodes) -> Iterator[Nodes]:
    """Afterwards nothing of it runs or lies about, however far it came."""
    with contextlib.ExitStack() as stack:
        folder = short_folder()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        (folder / "ray").mkdir()  # which Ray takes for granted
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in surroundings(folder).items():
            patch.setenv(name, value)
        # Last of all, since what could not begin is not known to Ray, and what begins later is not seen by it.
        stack.callback(kill_all, lambda: carrying(CLUSTER, str(folder)))
        nodes = make()
        stack.callback(nodes.cluster.shutdown)
        yield nodes


def surroundings(folder: Path) -> dict[str, str]:
    return {
        CLUSTER: str(folder),
        "RAY_TMPDIR": str(folder),
        "TMPDIR": str(folder),  # what a node that is killed had there goes with the cluster
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback only
        "RAY_memory_monitor_refresh_ms": "0",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
    }


def short_folder() -> Path:
    """A new one, in which Ray's sockets have room: of 107 bytes, what Ray and mkdtemp append takes 85."""
    usual = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="ray-", dir=usual if len(usual.encode()) <= 20 else "/tmp"))


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    require_ray()
    with cluster() as running:
        yield running


def require_ray() -> None:
    needs("ray")
    if importlib.util.find_spec("ray") is None:
        missing("Ray is not installed: pip install 'triton-build-repo[ray]'")


@pytest.mark.ray
def test_cluster_that_cannot_begin_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no folder for temporary files is to be found, and no home."""
    require_ray()
    seen: list[tuple[set[int], Path]] = []

    def fails_in_the_middle() -> Nodes:
        Nodes()
        folder = os.environ[CLUSTER]
        seen.append((carrying(CLUSTER, folder), Path(folder)))
        raise RuntimeError("in the middle")

    monkeypatch.setenv("TMPDIR", str(tmp_path / ("deep " * 30)))
    monkeypatch.delenv("HOME", raising=False)
    with pytest.raises(RuntimeError, match="in the middle"), cluster(fails_in_the_middle):
        pass
    ((processes, folder),) = seen
    assert len(processes) >= 2  # the head's two, at least
    assert not [pid for pid in processes if is_alive(pid)]
    assert not folder.exists()


def options(nodes: Nodes, tmp_path: Path, **changes: Any) -> Options:
    return Options(str(tmp_path / "storage"), nodes.address, **changes)


def begins(begun: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a network has said that it is being made."""
    until(lambda: has_begun(begun) or process.poll() is not None, 120)


def has_begun(file: Path) -> bool:
    return file.exists() and bool(file.read_text())


@pytest.mark.ray
def test_node_that_is_killed_mid_build_changes_nothing(nodes: Nodes, tmp_path: Path) -> None:
    doomed = nodes.add(num_cpus=2, env_vars={"DOOMED_NODE": "1"})
    begun = tmp_path / "begun"
    entry = f"network: ending.py:on_a_node_that_dies, weights: included, {RECIPE}, arguments: {{begun: {begun}}}"
    plans = plans_of(tmp_path, f"models:\n  a: {{{entry}}}\n  b: {{{entry}, format: onnx}}\n")
    # Each task fills a node, so that one runs on each; the head's waits until the other has begun.
    command = [sys.executable, "-m", "builder", "--engine", "ray", "--ray-address", nodes.address, "--task-cpus", "2"]
    command += ["--storage", "storage", "-r", "clustered", "--json"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with started(command, cwd=tmp_path, **pipes) as process:
        begins(begun, process)
        nodes.kill(doomed)
        output, messages = process.communicate(timeout=200)
    assert process.returncode == 0, messages
    assert messages == ""
    assert [model["name"] for model in json.loads(output)["built"]] == ["a", "b"]
    serial = build_repository(plans, tmp_path / "local")
    assert not serial.failed
    assert content(tmp_path / "clustered") == content(tmp_path / "local")
    assert lock.problems(tmp_path / "clustered") == []
    assert list((tmp_path / "storage").iterdir()) == []
    assert [path.name for path in staging.staging_root(tmp_path / "clustered").iterdir()] == ["lock"]


@pytest.mark.ray
def test_failures_come_back_as_they_are(nodes: Nodes, tmp_path: Path) -> None:
    text = (
        "models:\n"
        "  lost: {network: lenet, weights: lost.pth}\n"
        f"  fails: {{network: small.py:failing, weights: included, {RECIPE}}}\n"
        "  lenet: {weights: random}\n"
        "  away: {network: lenet, weights: random, images: no_such_folder}\n"
    )
    plans = plans_of(tmp_path, text)
    lines: list[str] = []
    outcome = build_on_cluster(plans, tmp_path / "clustered", options(nodes, tmp_path), lines.append)
    serial = build_repository(plans, tmp_path / "local")
    assert [type(failure.error) for failure in outcome.failed] == [WeightsError, NetworkError, ManifestError]
    assert [failure.name for failure in outcome.failed] == [failure.name for failure in serial.failed]
    assert str(outcome.failed[1].error) == str(serial.failed[1].error)
    assert [replace(model, seconds=0) for model in outcome.built] == [replace(m, seconds=0) for m in serial.built]
    assert content(tmp_path / "clustered") == content(tmp_path / "local")
    assert "lenet: publishing" in lines
    assert lines[-1].endswith("4 of 4 models done")


@pytest.mark.ray
def test_process_that_always_dies_is_given_up(nodes: Nodes, tmp_path: Path) -> None:
    plans = plans_of(tmp_path, f"models:\n  m: {{network: ending.py:killed, weights: included, {RECIPE}}}\n")
    (failure,) = build_on_cluster(plans, tmp_path / "r", options(nodes, tmp_path, retries=1)).failed
    assert isinstance(failure.error, ClusterError)
    assert "m: its node or process died 2 times" in str(failure.error)


@pytest.mark.ray
def test_tasks_run_where_their_gpu_is(nodes: Nodes, tmp_path: Path) -> None:
    """GPUs that Ray is told of and that are not there: placement and errors are real, plans are not to be had."""
    gpus = {
        name: nodes.add(num_cpus=1, num_gpus=1, resources={f"accelerator_type:{name}": 1}) for name in ("H100", "L4")
    }
    try:
        plans = plans_of(tmp_path, f"models:\n  m: {{network: lenet, {TENSORRT[1:]}\n")
        outcome = build_on_cluster(plans, tmp_path / "r", options(nodes, tmp_path), work=on_nodes.telling)
        assert isinstance(outcome.failed[0].error, ClusterError)
        for name, node in gpus.items():
            one = build_on_cluster(
                plans, tmp_path / "r", options(nodes, tmp_path, accelerators=(name,)), work=on_nodes.telling
            )
            told = json.loads(str(one.failed[0].error))
            assert (told["node"], told["key"], told["GPU"]) == (node.node_id, f"results/0-{name}", 1)
        outcome = build_on_cluster(plans, tmp_path / "r", options(nodes, tmp_path))
        assert isinstance(outcome.failed[0].error, ExportError)
        assert "missing: an NVIDIA GPU" in str(outcome.failed[0].error)
        assert list((tmp_path / "r").iterdir()) == []
        (model,) = build_on_cluster(plans, tmp_path / "r", options(nodes, tmp_path), work=on_nodes.hand_made).built
        assert (model.name, model.version, model.network_model) == ("m", 1, "m_tensorrt")
        merged = model_config.read(tmp_path / "r" / "m_tensorrt" / "config.pbtxt")
        assert dict(merged.cc_model_filenames) == {"8.9": "model-8.9.plan", "9.0": "model-9.0.plan"}
        assert lock.problems(tmp_path / "r") == []
    finally:
        for node in gpus.values():
            nodes.kill(node)


@pytest.mark.ray
def test_node_with_another_version_is_refused(nodes: Nodes, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(ROOT / "builder", other / "builder", ignore=shutil.ignore_patterns("__pycache__"))
    (other / "builder" / "__init__.py").write_text('__version__ = "0.0.1"\n')
    node = nodes.add(num_cpus=3, env_vars={"PYTHONPATH": str(other)})
    try:
        plans_of(tmp_path, "models:\n  lenet: {weights: random}\n")
        finished = build_repo(
            tmp_path, "--engine", "ray", "--ray-address", nodes.address, "--storage", "storage", "--task-cpus", 3
        )
        assert finished.returncode == ClusterError.exit_code
        assert "has build-repo 0.0.1 (here" in finished.stderr
    finally:
        nodes.kill(node)


@pytest.mark.ray
def test_storage_that_only_this_process_has(nodes: Nodes, tmp_path: Path) -> None:
    plans = plans_of(tmp_path, "models:\n  lenet: {weights: random}\n")
    (failure,) = build_on_cluster(plans, tmp_path / "r", Options("memory://build", nodes.address)).failed
    assert isinstance(failure.error, ClusterError)
    assert "the storage memory://build" in str(failure.error)
    assert "cannot be read from" in str(failure.error)


@pytest.mark.ray
def test_interrupted_it_ends_its_tasks_and_leaves_nothing(nodes: Nodes, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    entry = f"network: ending.py:waiting, weights: included, {RECIPE}, arguments: {{begun: {begun}}}"
    plans_of(tmp_path, f"models:\n  m: {{{entry}}}\n")
    command = [sys.executable, "-m", "builder", "--engine", "ray", "--ray-address", nodes.address]
    with started([*command, "--storage", "storage"], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        begins(begun, process)
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=60)
    assert process.returncode == 130
    assert messages == ""
    assert list((tmp_path / "storage").iterdir()) == []
    assert not list((tmp_path / "model_repository").iterdir())
    assert [path.name for path in staging.staging_root(tmp_path / "model_repository").iterdir()] == ["lock"]
    until(lambda: not Path(f"/proc/{begun.read_text()}").exists(), 30)


@pytest.mark.ray
def test_tasks_whose_nodes_are_gone_for_good_are_given_up(nodes: Nodes, tmp_path: Path) -> None:
    node = nodes.add(num_cpus=3)
    begun = tmp_path / "begun"
    entry = f"network: ending.py:waiting, weights: included, {RECIPE}, arguments: {{begun: {begun}}}"
    plans = plans_of(tmp_path, f"models:\n  m: {{{entry}}}\n")

    def kill_once_it_runs(step: str) -> None:
        if step.startswith("m: waiting"):
            until(lambda: has_begun(begun), 120)
            nodes.kill(node)

    asked = options(nodes, tmp_path, cpus=3, patience_s=0)
    (failure,) = build_on_cluster(plans, tmp_path / "r", asked, kill_once_it_runs).failed
    assert isinstance(failure.error, ClusterError)
    assert "the nodes that could build m are gone: it needs 3 CPUs on one node" in str(failure.error)
