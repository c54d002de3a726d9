"""AOTInductor packages, compiled for this machine: Triton's `pytorch` backend, platform `torch_aoti`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.exporters import operators
from builder.exporters.axes import equal_sizes, exported
from builder.exporters.half import HALF_PRECISIONS, in_precision
from builder.exporters.memory import page_out, weights_of, weights_released
from builder.exporters.quiet import quiet
from builder.exporters.room import require_room
from builder.exporters.scripted import refuse_scripted
from builder.exporters.torch_run import as_predict, prepared_device
from builder.machine.hardware import cpu_computes, gpu, instruction_sets
from builder.types import ExportRequest, Predict, Target

if TYPE_CHECKING:
    import torch
    from pydantic import BaseModel
    from torch import nn

    from builder.triton.signature import Signature

FILENAME = "model.pt2"
BACKEND = "pytorch"
PLATFORM = "torch_aoti"
PER_GPU = False
PRECISIONS: dict[str, tuple[str, ...]] = {"cpu": ("fp32", "fp16", "bf16"), "gpu": ("fp32", "fp16", "bf16")}
NAMES_TENSORS = False
OPTIONS: type[BaseModel] | None = None
VERSIONED: tuple[str, ...] = ("torch",)

EQUAL_SIZES = "equal_sizes"
"""What the config records, for `runtimes/pytorch/model.py`: a package reads beyond what is smaller than it expects."""

# Constants are folded and laid out for the kernels; they lie in the package as a file, since as data
# of the library they would be held in memory three times while it is linked (see _compiled).
CONFIGS: dict[str, Any] = {
    "aot_inductor.package": True,
    "aot_inductor.package_constants_in_so": False,
    # Weights packed for oneDNN would stay in memory after the build, out of reach of weights_released().
    "cpp.weight_prepack": False,
}


def objection(options: BaseModel | None, max_batch_size: int) -> tuple[str, str] | None:
    return None


def refusal(target: Target) -> str:
    if target.device == "gpu" and gpu() is None:
        return "its kernels are compiled for the GPU at hand, and PyTorch finds none here"
    if target.device == "cpu" and target.precision in HALF_PRECISIONS and not cpu_computes(target.precision):
        return f"this CPU has no {target.precision} arithmetic, and emulating it is far slower than fp32"
    if target.device == "cpu" and not shutil.which("g++") and not shutil.which("clang++"):
        return "its kernels are compiled with a C++ compiler, and there is none here (apt-get install g++)"
    return ""


def export(request: ExportRequest) -> dict[str, str]:
    import torch
    from torch._inductor.package.package import package_aoti

    refuse_scripted(request.module)
    device = "cuda" if request.target.device == "gpu" else "cpu"
    module = in_precision(request.module, request.target.precision).to(device)
    with _work_folder() as folder, quiet():
        with weights_released(module), torch.no_grad():
            program = exported(module, request, device)
            equal = equal_sizes(program, request.signature)
            files = _beside_each_other(_compiled(module, program, device, Path(folder)))
            del program
        require_room(request.path, sum(Path(file).stat().st_size for file in files if isinstance(file, str)))
        package_aoti(str(request.path), files)
    sizes = {EQUAL_SIZES: equal} if equal else {}
    return _bound_to(device) | sizes | operators.required(operators.of_package(request.path))


def _work_folder() -> tempfile.TemporaryDirectory[str]:
    """Away from the repository, whose path may have spaces: the compiler's command line is not quoted."""
    spaced = any(character.isspace() for character in tempfile.gettempdir())
    return tempfile.TemporaryDirectory(prefix="build-repo-aoti-", dir="/tmp" if spaced else None)


def _compiled(module: nn.Module, program: torch.export.ExportedProgram, device: str, folder: Path) -> Any:
    """The files of the package."""
    import torch

    configs = CONFIGS | {
        "freezing": device == "cpu",
        # Where there are none, the file would be empty, and could not be mapped.
        "aot_inductor.package_constants_on_disk_format": "binary_blob" if weights_of(module) else None,
        "aot_inductor.output_path": str(folder / "model.so"),
        # By then the kernels have the weights in layouts of their own.
        "post_grad_custom_post_pass": lambda _: page_out(module),
    }
    return torch._inductor.aot_compile(program.module(), program.example_inputs[0], options=configs)


def _beside_each_other(files: list[Any]) -> list[Any]:
    """The library named as the file that tells the operators that it calls, if there is one: that is looked for so."""
    told = [file for file in files if isinstance(file, str) and file.endswith("wrapper.json")]
    libraries = [file for file in files if isinstance(file, str) and file.endswith(".so")]
    named = {library: str(Path(file).with_suffix(".so")) for file, library in zip(told, libraries, strict=False)}
    for library, path in named.items():
        shutil.move(library, path)
    return [named.get(file, file) if isinstance(file, str) else file for file in files]


def _bound_to(device: str) -> dict[str, str]:
    """What the machine code in the package needs: it is compiled for all that this processor has."""
    if device == "cpu":
        return {"instruction_sets": " ".join(sorted(instruction_sets()))}
    found = gpu()
    assert found  # or the export would have failed
    return {"gpu": found.name, "compute_capability": found.compute_capability}


def load(path: Path, target: Target, signature: Signature) -> Predict:
    import torch

    device = prepared_device(target)
    with quiet():
        return as_predict(torch._inductor.aoti_load_package(str(path)), device, signature)


def parameters(target: Target) -> dict[str, str]:
    return {"INTRA_OP_THREAD_COUNT": str(target.threads), "INTER_OP_THREAD_COUNT": "1"}
