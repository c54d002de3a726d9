"""How much a repository asks of the machine that serves it.

Formulas to start with, in bytes and seconds; docs/fleet.md explains them. What is measured replaces them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from builder.repository.served import Served, steps_of

MIB = 1024 * 1024
GRACE_SECONDS = 30
"""In which the server answers what is in flight: that of the launchers, and of the images' entries."""
LINGER_SECONDS = 1
"""In which the server goes on after SIGTERM: the default of `serve`, and of the images' entries."""
STOP_SECONDS = LINGER_SECONDS + 2 * GRACE_SECONDS + 5
"""From SIGTERM to the end at most: linger, drain, the server's wait for models to unload, what kills it then."""

# ResNet-18 with the embedded server, of which PSS was taken under load: the server 46 to 114 MiB, the step 41, and
# the network without two copies of its weights 355 (pytorch), 144 (onnxruntime) and 109 (openvino).
SERVER_BYTES = 256 * MIB
STEP_BYTES = 256 * MIB
"""Of a step, with the images that it decodes."""
FRAMEWORK_BYTES = {"pytorch": 512 * MIB, "onnxruntime": 256 * MIB, "openvino": 256 * MIB}
"""Of each instance of a network on the CPU, which may be a process of its own, without weights."""
GPU_BYTES = 2048 * MIB
"""Of all networks on GPUs together, in host memory: CUDA's context, libraries and pinned memory. Assumed."""
WEIGHT_COPIES = 2
"""The weights as read, and as the framework lays them out."""
SHARED_MEMORY_BYTES = 64 * MIB
"""Of each Python process: what the embedded server and the images' entries ask of the backend where there is room."""

DOWNLOAD_BYTES_PER_SECOND = 100e6
"""Of a storage in the same region, an assumption."""
LOAD_BYTES_PER_SECOND = 50e6
"""From disk until a model is ready, an assumption."""
BOOT_SECONDS = 30
FRAMEWORK_SECONDS = {"pytorch": 60, "onnxruntime": 20, "openvino": 20, "tensorrt": 60}
"""To import each from a cold disk, once."""
INSTANCE_SECONDS = 5
"""To set up and warm up one instance of a network."""
CAUTION = 2
"""A start-up probe that gives up too early kills a server for being slow, again and again."""
UNKNOWN_BACKEND = "pytorch"

GPU_CPUS = 4
"""That decode images for it; 400 a second or so, see docs/fleet.md."""
THREAD_FACTS = ("INTRA_OP_THREAD_COUNT", "INFERENCE_NUM_THREADS", "intra_op_thread_count")


def repository_bytes(models: Sequence[Served]) -> int:
    """Of all files, versions that are no longer served included: what a pod downloads."""
    roots: set[Path] = {model.repository for model in models}
    return sum(file.stat().st_size for root in roots for file in root.rglob("*") if file.is_file())


def loaded_bytes(model: Served) -> int:
    """Of the artifact that one GPU or CPU loads: of several plans, the largest."""
    plans = [plan.stat().st_size for plan in model.plans().values()]
    return max(plans) if plans else model.artifact_bytes


def instances(model: Served) -> int:
    return sum(group.count for group in model.network.config.instance_group) or 1


def shared_memory_bytes(models: Sequence[Served]) -> int:
    """For /dev/shm: a region and room to grow for each instance and each step."""
    processes = sum(map(instances, models)) + len(steps_of(models))
    return 2 * SHARED_MEMORY_BYTES * processes


def memory_bytes(models: Sequence[Served]) -> int:
    """The server, its steps and networks, and what they share; a memory-backed /dev/shm counts in full."""
    steps = STEP_BYTES * len(steps_of(models))
    return SERVER_BYTES + steps + _networks_bytes(models) + shared_memory_bytes(models)


def _networks_bytes(models: Sequence[Served]) -> int:
    on_gpus = [model for model in models if model.needs_gpu]
    weights = sum(WEIGHT_COPIES * loaded_bytes(model) * instances(model) for model in models)
    frameworks = sum(_of(FRAMEWORK_BYTES, model) * instances(model) for model in models if not model.needs_gpu)
    return weights + frameworks + (GPU_BYTES if on_gpus else 0)


def cpus(models: Sequence[Served]) -> int:
    """The most that one network computes with; on a GPU, what decodes images for it."""
    if any(model.needs_gpu for model in models):
        return GPU_CPUS
    return max(2, *(instances(model) * threads(model) for model in models))


def threads(model: Served) -> int:
    facts = model.network.facts
    return max((int(facts[name]) for name in THREAD_FACTS if facts.get(name, "").isdecimal()), default=1)


def startup_seconds(models: Sequence[Served]) -> int:
    """From the container's start until all models are ready, twice as long as is likely."""
    frameworks = sum({model.backend: _of(FRAMEWORK_SECONDS, model) for model in models}.values())
    loading = sum(
        instances(model) * (INSTANCE_SECONDS + loaded_bytes(model) / LOAD_BYTES_PER_SECOND) for model in models
    )
    return math.ceil(CAUTION * (BOOT_SECONDS + frameworks + loading))


def download_seconds(size: int) -> int:
    return math.ceil(size / DOWNLOAD_BYTES_PER_SECOND)


def mebibytes(size: float) -> int:
    """Rounded up."""
    return math.ceil(size / MIB)


def _of(table: dict[str, int], model: Served) -> int:
    return table.get(model.backend, table[UNKNOWN_BACKEND])
