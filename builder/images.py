"""NVIDIA's tritonserver images: which versions a server of theirs brings along."""

from __future__ import annotations

import os
from dataclasses import dataclass

REGISTRY_VARIABLE = "BUILD_REPO_REGISTRY"
"""Environment variable: the registry and path that the images are pulled from, such as `HOST/PATH`."""


@dataclass(frozen=True)
class Image:
    tag: str
    triton: str
    torch: str
    tensorrt: str
    cuda: str
    onnxruntime: str | None
    """None where its release notes do not say."""

    def reference(self, registry: str | None = None) -> str:
        """What `docker pull` is given. Without a registry: that of the environment, else a local name."""
        registry = os.environ.get(REGISTRY_VARIABLE, "") if registry is None else registry
        return f"{registry.rstrip('/')}/tritonserver:{self.tag}-py3".lstrip("/")


# From the release notes, oldest first.
IMAGES = (
    Image("25.12", "2.64", "2.10.0a0", "10.14.1", "13.1.0", "1.23.2"),
    Image("26.02", "2.66", "2.11.0a0", "10.15.1", "13.1.1", "1.24.1"),
    Image("26.04", "2.68", "2.12.0a0", "10.16", "13.2.1", "1.24.4"),
    Image("26.07", "2.71", "2.13.0a0", "11.1.0", "13.3.1", "1.27.0"),
    Image("26.08", "2.72", "2.14.0a0", "11.2.1", "13.4.1", "1.28.0"),
    Image("26.09", "2.73", "2.14.0a0", "11.3.0", "13.4.1", None),
)


def newest() -> Image:
    return IMAGES[-1]


def with_tensorrt(version: str) -> Image | None:
    """The newest image of a TensorRT, by its first three numbers, else by its first two; None if none is known.

    A plan needs the very version that built it, unless it was built version-compatible: look at the
    image's `tensorrt` before promising that it will load.
    """
    for digits in (3, 2):
        for image in reversed(IMAGES):
            if numbers(image.tensorrt, digits) == numbers(version, digits):
                return image
    return None


def of_reference(reference: str) -> Image | None:
    """The image that a reference means, whatever registry it is from; None if it is not one of these."""
    name = reference.rpartition("/")[2]
    return next((image for image in IMAGES if name == image.reference("")), None)


def same_tensorrt(one: str, other: str) -> bool:
    """Whether two ways to write a version mean the same one, as far as the shorter tells."""
    known = min(len(one.split(".")), len(other.split(".")))
    return numbers(one, known) == numbers(other, known)


def numbers(version: str, digits: int) -> tuple[str, ...]:
    return tuple(version.split(".")[:digits])
