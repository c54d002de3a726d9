"""What tests have nodes of a cluster do in place of a build, to see which node was chosen and what was shipped."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from published import publish_plan

from builder.errors import BuilderError, ClusterError
from builder.executors.ray.worker import Built, Job
from builder.tasks.classification.comparison import ClassificationVerification
from builder.types import BuiltModel

GPUS = {"H100": ("NVIDIA H100", "9.0"), "L4": ("NVIDIA L4", "8.9")}


def telling(job: Job) -> Built | BuilderError:
    """A failure that says where the task ran, and what it was given."""
    import ray

    context = ray.get_runtime_context()
    return ClusterError(json.dumps({"key": job.key, "node": context.get_node_id(), **context.get_assigned_resources()}))


def hand_made(job: Job) -> Built | BuilderError:
    """A repository with a file in the place of a plan: what is tested is its way, not its content."""
    name = job.parcel.entry.name
    gpu, capability = GPUS[job.key.rpartition("-")[2]]
    with tempfile.TemporaryDirectory() as folder:
        publish_plan(Path(folder) / "repository", name, gpu=gpu, capability=capability)
        shipment = job.storage.ship(Path(folder) / "repository", f"{job.key}/once")
    found = ClassificationVerification((1,), 1, 0, 0, 0, 0, 1, 1, None, None, ())
    model = BuiltModel(name, 1, f"{name}_tensorrt", "preprocess_1", "tensorrt", "fp16", True, 2, 10, 1.0, found)
    return Built(model, shipment)
