"""What a repository's networks need of the machine that serves them, asked before a server starts."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from builder.errors import ConfigError, LaunchError
from builder.machine import hardware
from builder.repository import layout
from builder.repository.served import REQUIREMENTS
from builder.triton import model_config, releases

PACKAGES = {"openvino": "openvino", "onnxruntime": "onnxruntime"}


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _has_package(name: str) -> bool:
    """By pip's name, which need not be the module's."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _torch_version() -> str | None:
    try:
        return version("torch")
    except PackageNotFoundError:
        return None


def _tensorrt_version() -> str | None:
    """The version of the Python package tensorrt; None where it does not import, as without its libraries."""
    try:
        import tensorrt
    except (ImportError, OSError):
        return None
    return str(tensorrt.__version__)


@dataclass(frozen=True)
class Machine:
    """The machine that will serve. Each question is asked only if a model makes it matter."""

    is_installed: Callable[[str], bool] = _is_installed
    torch_version: Callable[[], str | None] = _torch_version
    tensorrt_version: Callable[[], str | None] = _tensorrt_version
    instruction_sets: Callable[[], frozenset[str]] = hardware.instruction_sets
    gpu: Callable[[], hardware.Gpu | None] = hardware.gpu
    has_package: Callable[[str], bool] = _has_package


THIS = Machine()


def refuse_unloadable(repository: Path, machine: Machine = THIS) -> None:
    """Raise LaunchError with every reason why the embedded server could not load a published model."""
    reasons = [
        f"{folder.name} cannot be served here: {reason}"
        for folder in sorted(repository.iterdir())
        for reason in _reasons(folder, machine)
    ]
    if reasons:
        raise LaunchError("\n".join(reasons))


def _reasons(folder: Path, machine: Machine) -> Iterator[str]:
    try:
        model = model_config.read(folder / layout.CONFIG)
    except (OSError, ConfigError):
        return  # not a model, or one that the server will say more about
    facts = {key: value.string_value for key, value in model.parameters.items()}
    if facts.get(layout.ROLE) in layout.STEP_ROLES:
        yield from _step_reasons(facts, machine)
    if facts.get(layout.ROLE) not in (layout.NETWORK, layout.MODEL):
        return
    # Custom operators are there once the package that has them is imported, in whatever process runs the network.
    for library in facts.get("operator_libraries", "").split():
        if not machine.is_installed(library):
            yield f"it calls operators of {library}, which is not installed; run: pip install {library}"
    if model.backend == "tensorrt":
        yield from _plan_reasons(model, facts, machine)
    elif model.platform == "torch_aoti" or model.default_model_filename.endswith(".pt2"):
        yield from _package_reasons(facts, machine)
    elif model.backend in PACKAGES and not machine.is_installed(PACKAGES[model.backend]):
        package = PACKAGES[model.backend]
        yield f"{package} is not installed; run: pip install {package}"


def _step_reasons(facts: dict[str, str], machine: Machine) -> Iterator[str]:
    for requirement in facts.get(REQUIREMENTS, "").split():
        name = requirement.partition("==")[0]
        if not machine.has_package(name):
            yield f"it imports {name}, which is not installed; run: pip install {requirement}"


def _plan_reasons(model: Any, facts: dict[str, str], machine: Machine) -> Iterator[str]:
    gpu, capabilities = machine.gpu(), sorted(model.cc_model_filenames)
    have = ", ".join(capabilities) or "none"
    if gpu is None:
        yield f"its plans are for NVIDIA GPUs of compute capability {have}, and there is no GPU"
    elif gpu.compute_capability not in capabilities:
        yield (
            f"its plans are for GPUs of compute capability {have}, and this {gpu.name} has {gpu.compute_capability}; "
            "build it on this machine too, and bring both together with build-repo merge"
        )
    # A plan is for the version of TensorRT that wrote it.
    built, installed = facts.get("tensorrt_version", ""), machine.tensorrt_version()
    if installed is None:
        yield f"the Python package tensorrt is not installed, or lacks its libraries; {_tensorrt_remedy(built)}"
    elif built and not releases.same_tensorrt(built, installed):
        yield f"its plans are of TensorRT {built}, and {installed} is installed; {_tensorrt_remedy(built)}"


def _tensorrt_remedy(built: str) -> str:
    if not built:
        return "run: pip install tensorrt"
    package = f"run: pip install 'tensorrt=={built}{'' if built.count('.') > 2 else '.*'}'"
    return f"{package}, or serve it with {_image_of(built)}"


def _image_of(tensorrt: str) -> str:
    image = releases.with_tensorrt(tensorrt)
    if image is None:
        return f"an image of TensorRT {tensorrt}, though none of those known has it; or build it again"
    if releases.same_tensorrt(image.tensorrt, tensorrt):
        return f"the image {image.reference()}, which has TensorRT {image.tensorrt}"
    return f"an image of TensorRT {tensorrt}; the nearest known, {image.reference()}, has {image.tensorrt}"


def _package_reasons(facts: dict[str, str], machine: Machine) -> Iterator[str]:
    """Of an AOTInductor package: machine code against one PyTorch and one processor."""
    built, installed = facts.get("torch_version", ""), machine.torch_version()
    if installed is None:
        yield f"PyTorch is not installed; run: pip install torch=={_public(built)}"
    elif built and _public(built) != _public(installed):
        yield (
            f"it was compiled against PyTorch {built}, and {installed} is installed; run: "
            f"pip install torch=={_public(built)}, or build it again"
        )
    # An instruction that the CPU has not ends the server's process, without a reason that anybody could read.
    if missing := set(facts.get("instruction_sets", "").split()) - machine.instruction_sets():
        lacking = ", ".join(sorted(missing))
        yield f"it was compiled for a CPU with {lacking}, which this one has not; build it again on this machine"
    if needed := facts.get("compute_capability"):
        yield from _gpu_reasons(needed, machine.gpu())


def _gpu_reasons(needed: str, gpu: hardware.Gpu | None) -> Iterator[str]:
    if gpu is None or gpu.compute_capability != needed:
        found = f"this {gpu.name} has {gpu.compute_capability}" if gpu else "there is no GPU"
        yield f"it was compiled for GPUs of compute capability {needed}, and {found}; build it again on this machine"


def _public(version: str) -> str:
    """A version without its local part, such as +cu130, which tells builds of one version apart."""
    return version.partition("+")[0]
