"""TensorRT's backend: GPUs alone, and plans of the very TensorRT that wrote them."""

from __future__ import annotations

from collections.abc import Iterator

from builder.check.backends import parameters, place
from builder.check.findings import Finding, Level, Rule
from builder.check.model import Context, Model
from builder.triton import releases

DEFAULT_FILE = "model.plan"
VERSION = Rule(
    "TMR833",
    "plan-of-another-tensorrt",
    Level.WARNING,
    "A plan was written by another version of TensorRT than the server has.",
    "TensorRT reads plans of its own version alone, unless they were built to be version-compatible.",
    "Build the plan with the TensorRT of the image that will serve it.",
    "NVIDIA's release notes; TensorRT: version compatibility",
)
RULES: tuple[Rule, ...] = (VERSION,)
TAG = b"ftrt"
VERSION_AT, VERSION_END = 24, 27
"""Of the header's first form: major, minor and patch, a byte each."""
GPU_ONLY = "TensorRT backend supports only GPU device"


def demands(model: Model, context: Context) -> Iterator[Finding]:
    yield from place.check(model, DEFAULT_FILE)
    yield from place.for_gpus(model)
    yield from parameters.kinds(model, ("KIND_GPU",), GPU_ONLY)


def artifacts(model: Model, context: Context) -> Iterator[Finding]:
    release = next((one for one in releases.RELEASES if one.tag == context.target.release), None)
    for artifact in place.artifacts(model, DEFAULT_FILE):
        if why := place.foreign(artifact.path):
            yield place.damaged(model, artifact.path, f"it {why}")
            continue
        with artifact.path.open("rb") as file:
            version = _version(file.read(VERSION_END))
        if version and release and not releases.same_tensorrt(version, release.tensorrt):
            message = f"it was written by TensorRT {version}, and {release.tag} has {release.tensorrt}"
            yield model.finding_at(VERSION, artifact.path, message)


def _version(head: bytes) -> str:
    """Empty where it does not tell."""
    if not head.startswith(TAG) or len(head) < VERSION_END or any(head[4:8]):
        return ""
    return ".".join(map(str, head[VERSION_AT:VERSION_END]))
