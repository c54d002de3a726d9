"""A small image for CPUs: the embedded server, and only the runtimes that the repository's formats need."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.containers import packages
from builder.containers.order import Order
from builder.repository.served import Served

RUNTIMES = {"onnxruntime": "onnxruntime", "openvino": "openvino"}
"""pip's name of what runs a backend's models. PyTorch is not one of them: it alone takes gigabytes."""
SERVER = ("nvidia-pytriton", "tritonclient[grpc]", "numpy", "jinja2", "typer", "filelock")
# What these declare and `serve` does without: PyTriton's own Python, telemetry.
ALONE = ("nvidia-pytriton", "openvino")
# Below site-packages: what no server needs. Stubs and the library of other Pythons, GPU and NPU plugins, readers of
# formats that are not published, compilers, headers, tests.
PRUNED = (
    "nvidia_pytriton.libs/libpython3-*",
    "openvino/libs/libopenvino_intel_gpu_plugin.so",
    "openvino/libs/libopenvino_intel_npu_*",
    "openvino/libs/libopenvino_*_frontend.so.*",
    "openvino/libs/cache.json",
    "openvino/include",
    "openvino/cmake",
    "onnxruntime/transformers",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "*/tests",
    "numpy/*/tests",
    "numpy/f2py",
    "numpy/distutils",
    "numpy/core/include",
)
KEPT_FRONTEND = "openvino/libs/libopenvino_ir_frontend.so.*"


def refusal(models: Sequence[Served]) -> str:
    for model in models:
        if model.needs_gpu:
            return f"{model.name} needs a GPU, and the slim image is for CPUs; use --kind nvidia"
        if model.backend not in RUNTIMES:
            return (
                f"{model.name} needs PyTorch, which alone takes several GB; build it with `format: onnx` or "
                "`format: openvino`, or use --kind nvidia"
            )
    return ""


def base(models: Sequence[Served]) -> str:
    del models
    return f"python:{python()}-slim"


def python() -> str:
    """That of this environment: the packages' versions are the ones that were verified in it."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def write(order: Order, folder: Path) -> dict[str, Any]:
    runtimes = {RUNTIMES[model.backend] for model in order.models}
    wanted = packages.pinned((*order.requirements, *SERVER, *sorted(runtimes)), ALONE)
    pip = packages.gather(wanted, folder, order.python)
    ignored = shutil.ignore_patterns("__pycache__", "samples")
    shutil.copytree(Path(__file__).parent.parent, folder / "builder", ignore=ignored)
    return {"pip": pip, "pruned": PRUNED, "kept": KEPT_FRONTEND}
