"""Which of NVIDIA's images can serve a repository, by what the repository records of how it was built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from builder.errors import ImageError
from builder.machine.hardware import Gpu
from builder.repository.served import Served, recorded
from builder.triton import advisories, releases
from builder.triton.releases import Release

# Operator sets of ONNX are read from these versions on; the exporter writes IR version 10 with each.
ONNXRUNTIME_OF_OPSET = {"18": "1.18"}


@dataclass(frozen=True)
class Choice:
    """Of a release, whose image can serve a repository."""

    release: Release
    reasons: tuple[str, ...]
    """Why it, for people."""
    warnings: tuple[str, ...] = ()


def choose(models: Sequence[Served], gpu: Gpu | None = None) -> Choice:
    """The newest image that can load every model. Raises ImageError.

    So it has a sound batcher, and no published holes, if any that fits has: what was mended stays so in newer ones.
    `gpu` is the one that it will run on; None if that is not known, and then nothing is asked of it.
    """
    objections = {release: [*_objections(release, models, gpu)] for release in reversed(releases.RELEASES)}
    fitting = [release for release, reasons in objections.items() if not reasons]
    if not fitting:
        raise ImageError(_refusal(objections))
    release = fitting[0]
    return Choice(release, tuple(_reasons(release, models, gpu)), tuple(_warnings(release)))


def _refusal(objections: dict[Release, list[str]]) -> str:
    lines = [f"  {release.tag}: {'; '.join(reasons)}" for release, reasons in objections.items()]
    return (
        "none of the known images of NVIDIA's can serve this repository:\n" + "\n".join(lines) + "\n"
        "build the models again with versions that one of them has, or name an image of your own with --image"
    )


def _objections(release: Release, models: Sequence[Served], gpu: Gpu | None) -> Iterator[str]:
    for model in models:
        for reason in _objections_to(release, model):
            yield f"{model.name} {reason}"
    if gpu is not None and any(model.needs_gpu for model in models):
        yield from _objections_of(gpu)


def _objections_to(release: Release, model: Served) -> Iterator[str]:
    for version in recorded([model], "tensorrt_version") if model.backend == "tensorrt" else ():
        if not releases.same_tensorrt(version, release.tensorrt):
            yield f"has plans of TensorRT {version}, and the image has {release.tensorrt}"
    is_package = model.network.config.platform == "torch_aoti"
    for version in recorded([model], "torch_version") if model.backend == "pytorch" else ():
        built, has = _minor(version), _minor(release.torch)
        if is_package and built != has:
            yield f"was compiled against PyTorch {version}, and the image has {release.torch}"
        elif built > has:
            yield f"was written by PyTorch {version}, and the image's older {release.torch} may not read it"
    if is_package and _order(release.tag) < _order(releases.BATCHED_PACKAGES):
        yield f"is an AOTInductor package, which Triton batches for from {releases.BATCHED_PACKAGES} on"
    if model.backend == "onnxruntime" and _onnxruntime(release) < _least_onnxruntime(model):
        yield f"needs ONNX Runtime {_text(_least_onnxruntime(model))}, and the image has {release.onnxruntime}"


def _objections_of(gpu: Gpu) -> Iterator[str]:
    """What CUDA 13, which is in every known image, does not run on."""
    if _order(gpu.compute_capability) < _order(releases.LEAST_CAPABILITY):
        yield f"its CUDA runs on compute capability {releases.LEAST_CAPABILITY} on, and this {gpu.name} has less"
    branch = gpu.driver.split(".")[0]
    if not branch.isdecimal() or int(branch) >= releases.LEAST_DRIVER:
        return
    is_compatible = int(branch) in releases.COMPATIBLE_DRIVERS and releases.DATA_CENTRE_GPUS.search(gpu.name)
    if not is_compatible:
        yield f"its CUDA needs driver {releases.LEAST_DRIVER} or newer, and {gpu.driver} is installed"


def _reasons(release: Release, models: Sequence[Served], gpu: Gpu | None) -> Iterator[str]:
    backends = {model.backend for model in models}
    for backend, name, has in (
        ("tensorrt", "TensorRT", release.tensorrt),
        ("pytorch", "PyTorch", release.torch),
        ("onnxruntime", "ONNX Runtime", release.onnxruntime or "of a version that its notes do not tell"),
    ):
        if backend in backends:
            fact = {"tensorrt": "tensorrt_version", "pytorch": "torch_version", "onnxruntime": "opset"}[backend]
            of = [model for model in models if model.backend == backend]
            built = ", ".join(recorded(of, fact)) or "(not recorded)"
            yield f"{name} {has}, for {'opset ' if fact == 'opset' else 'models of '}{built}"
    if any(model.needs_gpu for model in models):
        yield f"CUDA {release.cuda}, for " + (f"{gpu.name} with driver {gpu.driver}" if gpu else "a GPU not looked at")


def _warnings(release: Release) -> Iterator[str]:
    if _order(release.tag) < _order(releases.SOUND_BATCHER):
        yield (
            f"Triton before {releases.SOUND_BATCHER} loses wake-ups in its batcher: bursts of requests may wait 500 "
            "ms; build the models again for a newer image"
        )

    if found := advisories.open_in(release.triton, advisories.CALLERS):
        yield (
            f"Triton {release.triton} in it has {len(found)} published holes, and no image without them fits; build "
            f"the models again for {advisories.closing(found)} or newer: see SECURITY.md"
        )


def _onnxruntime(release: Release) -> tuple[int, ...]:
    """Of an image whose notes do not say: that of the newest one before it that does."""
    known = [one.onnxruntime for one in releases.RELEASES[: releases.RELEASES.index(release) + 1] if one.onnxruntime]
    return _order(known[-1])


def _least_onnxruntime(model: Served) -> tuple[int, ...]:
    return max((_order(ONNXRUNTIME_OF_OPSET.get(opset, "0")) for opset in recorded([model], "opset")), default=(0,))


def _order(version: str) -> tuple[int, ...]:
    """Its numbers; none of what was written into a config by hand and is no version."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _minor(version: str) -> tuple[int, ...]:
    """2.14 of 2.14.0a0+git and of 2.14.1: what of PyTorch decides whether files can be read."""
    return _order(".".join(releases.numbers(version, 2)))


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
