"""Files of the user's run in this process, before they are published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import NetworkError
from builder.exporters import EXPORTERS
from builder.exporters.adopting import formats_of
from builder.exporters.quiet import quiet
from builder.exporters.torch_run import prepared_device
from builder.triton.interface import Interface, ToldTensor
from builder.triton.signature import Signature, TensorSpec
from builder.types import Artifact, Predict, Target
from builder.util.usercode import border

if TYPE_CHECKING:
    import torch


def of_program(path: Path) -> torch.nn.Module:
    """The network that a program of torch.export is. Raises NetworkError."""
    import torch

    with border(NetworkError, f"{path} cannot be loaded"), quiet():
        return torch.export.load(path).module()


def positional(artifact: Artifact, target: Target) -> Callable[..., Any] | None:
    """What PyTorch itself runs, which has no names; None for the other formats. Raises NetworkError."""
    import torch

    suffix = artifact.path.suffix.lower()
    if suffix not in (".pt", ".pt2"):
        return None
    device = prepared_device(target)
    with border(NetworkError, f"{artifact.path} cannot be loaded"), quiet():
        if suffix == ".pt2":
            return _on(torch._inductor.aoti_load_package(str(artifact.path)), device)
        return _on(torch.jit.load(str(artifact.path), map_location=device), device)  # type: ignore[no-untyped-call]


def _on(run: Callable[..., Any], device: str) -> Callable[..., Any]:
    import torch
    from torch.utils import _pytree

    def called(*tensors: torch.Tensor) -> Any:
        with torch.inference_mode():
            result = run(*(tensor.to(device) for tensor in tensors))
        return _pytree.tree_map(lambda value: value.cpu() if isinstance(value, torch.Tensor) else value, result)

    return called


def named(artifact: Artifact, target: Target) -> Predict:
    """The file as a function under its own names. Raises NetworkError, ExportError."""
    exporter = EXPORTERS[formats_of(artifact.path.suffix.lower())[0]]
    with border(NetworkError, f"{artifact.path} cannot be loaded"):
        return exporter.load(artifact.path, target, signature(artifact.interface))


def signature(told: Interface) -> Signature:
    """All that it tells, whole shapes, with what it does not tell as if it were of any kind."""
    return Signature(
        tuple(_spec(tensor) for tensor in told.inputs or ()),
        tuple(_spec(tensor) for tensor in told.outputs or ()),
        batched=False,
    )


def _spec(tensor: ToldTensor) -> TensorSpec:
    return TensorSpec(tensor.name, tensor.data_type or "FP32", tensor.shape or ())
