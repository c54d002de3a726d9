"""NVIDIA's releases of Triton: which versions the server in each container image brings along."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

REGISTRY_VARIABLE = "BUILD_REPO_REGISTRY"
"""Environment variable: the registry and path that the images are pulled from, such as `HOST/PATH`."""


@dataclass(frozen=True)
class Release:
    """One of NVIDIA's, by its container image: the versions that the release notes give."""

    tag: str
    triton: str
    torch: str
    tensorrt: str
    cuda: str
    onnxruntime: str | None
    """Version of ONNX Runtime; None where the release notes do not say."""
    python: str = "3.12"
    """Version of Python in the python backend, for which the packages of steps are chosen."""

    def reference(self, registry: str | None = None) -> str:
        """What `docker pull` is given. Without a registry: that of the environment, else a local name."""
        registry = os.environ.get(REGISTRY_VARIABLE, "") if registry is None else registry
        return f"{registry.rstrip('/')}/tritonserver:{self.tag}-py3".lstrip("/")


# name[:tag][@digest]; a colon before the last slash is a registry's port.
REFERENCE = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._/-]|:[0-9]+/)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
# What CUDA 13 asks of the machine, whichever image it is in: a driver, or one of the older branches that the
# compatibility libraries in the images make do with on data-centre GPUs.
LEAST_DRIVER = 580
COMPATIBLE_DRIVERS = (535, 570)
DATA_CENTRE_GPUS = re.compile(r"\b(T4|A2|A10|A16|A30|A40|A100|A800|L4|L40S?|H\d{2,3}|GH\d{3}|B\d{3}|GB\d{3})\b")
LEAST_CAPABILITY = "7.5"

# Before it, Triton's batcher loses wake-ups in models with a queue policy.
SOUND_BATCHER = "26.08"
# Triton takes AOTInductor's packages from 26.03 on, and batches for them from here.
BATCHED_PACKAGES = "26.07"

HEALTH = (
    "python3",
    "-c",
    "from urllib.request import ProxyHandler, build_opener;"
    " build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/v2/health/ready', timeout=4)",
)
"""Command in a container of ours that ends with exit code 0 if the server is ready."""

# From the release notes, oldest first.
RELEASES = (
    Release("25.12", "2.64", "2.10.0a0", "10.14.1", "13.1.0", "1.23.2"),
    Release("26.02", "2.66", "2.11.0a0", "10.15.1", "13.1.1", "1.24.1"),
    Release("26.04", "2.68", "2.12.0a0", "10.16", "13.2.1", "1.24.4"),
    Release("26.07", "2.71", "2.13.0a0", "11.1.0", "13.3.1", "1.27.0"),
    Release("26.08", "2.72", "2.14.0a0", "11.2.1", "13.4.1", "1.28.0"),
    Release("26.09", "2.73", "2.14.0a0", "11.3.0", "13.4.1", None),
)
# The server's version in each, by the titles of its own releases and of the clients'; 25.07 has mended 25.06's.
SERVERS = {
    "24.01": "2.42", "24.02": "2.43", "24.03": "2.44", "24.04": "2.45", "24.05": "2.46", "24.06": "2.47",
    "24.07": "2.48", "24.08": "2.49", "24.09": "2.50", "24.10": "2.51", "24.11": "2.52", "24.12": "2.53",
    "25.01": "2.54", "25.02": "2.55", "25.03": "2.56", "25.04": "2.57", "25.05": "2.58", "25.06": "2.59",
    "25.07": "2.59.1", "25.08": "2.60", "25.09": "2.61", "25.10": "2.62", "25.11": "2.63", "25.12": "2.64",
    "26.01": "2.65", "26.02": "2.66", "26.03": "2.67", "26.04": "2.68", "26.05": "2.69", "26.06": "2.70",
    "26.07": "2.71", "26.08": "2.72", "26.09": "2.73",
}  # fmt: skip


def newest() -> Release:
    return RELEASES[-1]


def before(tag: str) -> str:
    """The release in front of one of SERVERS."""
    return max(known for known in SERVERS if known < tag)


def with_tensorrt(version: str) -> Release | None:
    """The newest release with a TensorRT, by its first three numbers, else by its first two; None if none is known.

    A plan needs the very version that built it, unless it was built version-compatible: look at the
    release's `tensorrt` before promising that it will load.
    """
    for digits in (3, 2):
        for release in reversed(RELEASES):
            if numbers(release.tensorrt, digits) == numbers(version, digits):
                return release
    return None


def of_reference(reference: str) -> Release | None:
    """The release that a reference means, whatever registry it is from; None if it is not one of these."""
    name = reference.rpartition("/")[2]
    return next((release for release in RELEASES if name == release.reference("")), None)


def same_tensorrt(one: str, other: str) -> bool:
    """Whether two ways to write a version mean the same one, as far as the shorter tells."""
    known = min(len(one.split(".")), len(other.split(".")))
    return numbers(one, known) == numbers(other, known)


def numbers(version: str, digits: int) -> tuple[str, ...]:
    return tuple(version.split(".")[:digits])
