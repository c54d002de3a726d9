"""A stand-in for NVIDIA's image: the same layout and the real tritonserver, of the embedded server's wheel.

It has Python, NumPy and ONNX Runtime, and no Pillow. Its onnxruntime backend is the embedded server's, in Python.
"""

from __future__ import annotations

import io
import os
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import Any

from engines import base_image
from tools import missing

from builder.launchers.runtime import RUNTIMES, SHARED_CODE
from builder.triton import releases

REGISTRY = "build-repo-test"
"""For BUILD_REPO_REGISTRY, so that the image is the one that is chosen of NVIDIA's."""
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = ("numpy", "numpy.libs", "onnxruntime", "flatbuffers", "google", "packaging")
SITE = Path(sysconfig.get_path("purelib"))
DOCKERFILE = f"""
FROM {{base}}
COPY opt /opt
COPY packages /usr/local/lib/python{PYTHON}/dist-packages
ENV PATH=/opt/tritonserver/bin:/usr/bin:/bin LD_LIBRARY_PATH=/opt/tritonserver/lib
ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh"]
"""


def python_base(client: Any) -> str:
    """A base image with a Python of this environment's version, and HAProxy, which spares another image's making."""
    packages = [f"python{PYTHON}-minimal", "python3-minimal", f"libpython{PYTHON}", "haproxy"]
    reference = base_image(client, packages)
    said = client.containers.run(reference, ["python3", "--version"], remove=True).decode()
    if not said.startswith(f"Python {PYTHON}."):
        missing(f"the packages here are for Python {PYTHON}, and the base image has {said}")
    return reference


def nvidia_image(client: Any) -> str:
    """Build it; the reference of the newest of NVIDIA's images, in a registry of the tests' own."""
    reference = releases.newest().reference(REGISTRY)
    stream = client.api.build(
        fileobj=_context(python_base(client)), custom_context=True, tag=reference, rm=True, decode=True
    )
    said = [line.get("stream") or line.get("error", "") for line in stream]
    assert client.images.list(reference), "".join(said)
    return reference


def _context(base: str) -> io.BytesIO:
    server = SITE / "pytriton" / "tritonserver"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        _add(tar, "Dockerfile", DOCKERFILE.format(base=base).encode())
        _add(tar, "opt/nvidia/nvidia_entrypoint.sh", b'#!/bin/sh\nexec "$@"\n', 0o755)
        tar.add(server / "bin", "opt/tritonserver/bin")
        tar.add(SITE / "nvidia_pytriton.libs", "opt/tritonserver/lib")
        tar.add(server / "backends" / "python", "opt/tritonserver/backends/python")
        stub = "triton_python_backend_stub"
        tar.add(server / "python_backend_stubs" / PYTHON / stub, f"opt/tritonserver/backends/python/{stub}")
        tar.add(RUNTIMES / "onnxruntime", "opt/tritonserver/backends/onnxruntime")
        tar.add(RUNTIMES / SHARED_CODE, f"opt/tritonserver/backends/onnxruntime/{SHARED_CODE}")
        for package in PACKAGES:
            tar.add(SITE / package, f"packages/{package}", filter=_without_caches)
    packed.seek(0)
    return packed


def _without_caches(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if os.path.basename(member.name) in ("__pycache__", "tests", "transformers") else member  # noqa: PTH119


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))
