"""One task a model, format and GPU generation: what each asks of a node, and whether any node has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from builder.build.entry import Entry
from builder.errors import ClusterError
from builder.executors.ray.options import Options

ACCELERATOR = "accelerator_type:"
"""How Ray names the resource of a node that says what its GPUs are."""
# By Ray's names, which are only those of NVIDIA's GPUs here; their compute capability is in NVIDIA's tables.
CAPABILITIES = {
    "K80": "3.7",
    "P100": "6.0",
    "P4": "6.1",
    "V100": "7.0",
    "T4": "7.5",
    "A100": "8.0",
    "A10G": "8.6",
    "L4": "8.9",
    "L40S": "8.9",
    "H100": "9.0",
    "H200": "9.0",
    "H20": "9.0",
    "B200": "10.0",
    "GB200": "10.0",
    "B300": "10.3",
    "GB300": "10.3",
    "RTX-PRO-6000": "12.0",
}


@dataclass(frozen=True)
class Node:
    id: str
    address: str
    resources: dict[str, float]


@dataclass(frozen=True)
class RayTask:
    number: int
    """Of its entry."""
    entry: Entry
    cpus: int
    accelerator: str | None = None
    """Ray's name of the GPU that it needs one of."""

    @property
    def name(self) -> str:
        return f"{self.entry.name} on {self.accelerator}" if self.accelerator else self.entry.name

    @property
    def resources(self) -> dict[str, float]:
        """All that a node must have."""
        gpu = {"GPU": 1.0, f"{ACCELERATOR}{self.accelerator}": 0.001} if self.accelerator else {}
        return {"CPU": float(self.cpus)} | gpu

    def fits(self, node: Node) -> bool:
        return all(node.resources.get(name, 0) >= amount for name, amount in self.resources.items())


def tasks_of(entries: Sequence[Entry], nodes: Sequence[Node], options: Options) -> list[RayTask]:
    """What is to be run. Raises ClusterError where the cluster has no node for a task."""
    accelerators = options.accelerators or _accelerators(nodes)
    tasks: list[RayTask] = []
    for number, entry in enumerate(entries):
        kinds = _kinds(entry, accelerators)
        tasks += [RayTask(number, entry, options.cpus, kind) for kind in kinds]
    for task in tasks:
        if not any(task.fits(node) for node in nodes):
            raise ClusterError(f"no node of the cluster can build {task.name}: {missing(task)}; {described(nodes)}")
    return tasks


def _accelerators(nodes: Sequence[Node]) -> tuple[str, ...]:
    """NVIDIA's GPUs of the cluster."""
    names = {name.removeprefix(ACCELERATOR) for node in nodes if node.resources.get("GPU") for name in node.resources}
    return tuple(sorted(names & CAPABILITIES.keys()))


def _kinds(entry: Entry, accelerators: Sequence[str]) -> Sequence[str | None]:
    """The GPUs to build for: each, if artifacts are for one; the first, if they are for all; none for CPUs."""
    if entry.spec.device == "cpu":
        return [None]
    if not accelerators:
        raise ClusterError(
            f"{entry.name} is for GPUs, and no node of the cluster says that it has one of NVIDIA's; name one with "
            "--accelerator if Ray calls it otherwise"
        )
    if not entry.exporter.PER_GPU:
        return accelerators[:1]
    for one, other in combinations(accelerators, 2):
        capability = CAPABILITIES.get(one)
        if capability and capability == CAPABILITIES.get(other):
            raise ClusterError(
                f"{entry.name} would be built for {one} and {other}, which share compute capability {capability}, by "
                f"which a server chooses the plan; name the generations to build for, such as --accelerator {one}"
            )
    return accelerators


def missing(task: RayTask) -> str:
    gpu = f", a GPU and {ACCELERATOR}{task.accelerator}" if task.accelerator else ""
    return f"it needs {task.cpus} CPU{'s' if task.cpus > 1 else ''}{gpu} on one node"


def described(nodes: Sequence[Node]) -> str:
    """What the cluster has, for whoever asked for something else."""
    if not nodes:
        return "the cluster has no nodes"
    return "the cluster has " + "; ".join(_node(node) for node in nodes)


def _node(node: Node) -> str:
    counts = [f"{int(node.resources.get(kind, 0))} {kind}" for kind in ("CPU", "GPU")]
    kinds = sorted(name.removeprefix(ACCELERATOR) for name in node.resources if name.startswith(ACCELERATOR))
    return f"{node.address} with {' and '.join(counts)}" + (f" ({', '.join(kinds)})" if kinds else "")
