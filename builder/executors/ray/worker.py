"""What runs on a node: unpack, build into a repository of its own, ship that."""

from __future__ import annotations

import platform
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path

from builder import __version__
from builder.build.entry import Entry
from builder.build.run import build_model
from builder.errors import BuilderError, ClusterError
from builder.executors.ray.parcels import Parcel, unpack
from builder.executors.ray.storage import Shipment, Storage, require_reachable
from builder.machine.cores import spin_briefly
from builder.types import BuiltModel
from builder.util.usercode import undone

# What decides, beside the formats' own packages, what a build gives.
PACKAGES = ("torch", "torchvision", "numpy", "pillow")


@dataclass(frozen=True)
class Job:
    """All that a node is told of one task."""

    key: str
    """Of what it ships."""
    parcel: Parcel
    storage: Storage
    versions: dict[str, str]
    """Of the machine that builds; the node's must be the same."""
    node: str = ""


@dataclass(frozen=True)
class Built:
    model: BuiltModel
    shipment: Shipment


def versions(entries: Sequence[Entry]) -> dict[str, str]:
    """Of all that must be the same on every machine of a build, as it is installed here."""
    packages = {*PACKAGES, *(name for entry in entries for name in entry.exporter.VERSIONED)}
    found = {name: installed(name) for name in sorted(packages)}
    here = {"build-repo": __version__, "python": platform.python_version()}
    return here | {name: version for name, version in found.items() if version}


def installed(name: str) -> str:
    try:
        return package_version(name)
    except PackageNotFoundError:
        return ""


def require_same(expected: dict[str, str], node: str) -> None:
    """Raise ClusterError on a node whose builds could differ from those of the machine that asks."""
    here = {"build-repo": __version__, "python": platform.python_version()}
    found = {name: here.get(name) or installed(name) or "missing" for name in expected}
    differing = [f"{name} {found[name]} (here {expected[name]})" for name in expected if found[name] != expected[name]]
    if differing:
        raise ClusterError(f"node {node} has {', '.join(differing)}; install the same there, or use nodes that have it")


def run(job: Job) -> Built | BuilderError:
    """What the task ends with. Errors are values, so that only dead nodes are tried again."""
    node = job.node or platform.node()
    spin_briefly()
    with tempfile.TemporaryDirectory(prefix="build-repo-") as folder:
        root = Path(folder).resolve() / "files"
        try:
            require_same(job.versions, node)
            require_reachable(job.storage, node)
            entry = unpack(job.parcel, job.storage, root)
            with undone():  # the process builds others, too
                model = build_model(entry, Path(folder) / "repository")
            # A key of its own, so that an attempt that is cut off leaves nothing in the way of the next.
            shipment = job.storage.ship(Path(folder) / "repository", f"{job.key}/{secrets.token_hex(4)}")
            return Built(_as_named_there(model, root), shipment)
        except BuilderError as error:
            return type(error)(str(error).replace(str(root), ""))


def _as_named_there(model: BuiltModel, root: Path) -> BuiltModel:
    """With the images' paths on the machine that builds."""
    found = model.verification.with_names(lambda name: name.removeprefix(str(root)))
    return replace(model, verification=found)
