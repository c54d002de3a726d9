"""Which axes of an artifact are of any size, as torch.export is told it and as it keeps to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from builder.errors import ExportError
from builder.exporters.arguments import in_order
from builder.triton.signature import ANY_SIZE, Signature, TensorSpec
from builder.types import ExportRequest

if TYPE_CHECKING:
    import torch
    from torch import nn


def exported(module: nn.Module, request: ExportRequest, device: str = "cpu") -> torch.export.ExportedProgram:
    """The module as a program for every size that the signature allows. Raises ExportError for one that it fixes."""
    import torch

    examples = tuple(tensor.to(device) for tensor in sized_examples(request))
    program = torch.export.export(module, examples, dynamic_shapes=dynamic_shapes(request), strict=False)
    _require_dynamic(program, request.signature)
    return program


def equal_sizes(program: torch.export.ExportedProgram, signature: Signature) -> str:
    """Which axes of any size must be of one, as a config's parameter: `ids.1=mask.1 a.2=b.1=b.2`."""
    groups: dict[str, list[str]] = {}
    for tensor, axis, size in _dynamic_sizes(program, signature):
        groups.setdefault(str(size), []).append(f"{tensor.name}.{axis}")
    return " ".join("=".join(group) for group in groups.values() if len(group) > 1)


def dynamic(tensor: TensorSpec, signature: Signature) -> list[int]:
    """The axes of any size, but for the batch's, counted as the tensor has them."""
    first = int(signature.batched)
    return [number for number, size in enumerate(tensor.shape, first) if size == ANY_SIZE]


def sized_examples(request: ExportRequest) -> tuple[torch.Tensor, ...]:
    """In forward()'s order, without a 1 in an axis of any size: torch.export takes it, and 0, for what is always so."""
    found = dict(request.examples)
    for tensor in request.signature.inputs:
        for axis in dynamic(tensor, request.signature):
            if found[tensor.name].shape[axis] == 1:
                found[tensor.name] = found[tensor.name].repeat_interleave(2, axis)
    return in_order(request.signature, found)


def dynamic_shapes(request: ExportRequest) -> tuple[dict[int, Any], ...]:
    """One batch for all inputs. Of the other axes PyTorch finds out itself which are equal."""
    import torch

    largest = max(2, request.target.max_batch_size)
    batch = {0: torch.export.Dim("batch", min=1, max=largest)} if request.signature.batched else {}
    return tuple(
        batch | dict.fromkeys(dynamic(tensor, request.signature), torch.export.Dim.AUTO)
        for tensor in request.signature.inputs
    )


def _require_dynamic(program: torch.export.ExportedProgram, signature: Signature) -> None:
    """Raise ExportError where forward() works with one size alone: PyTorch then fixes the axis, and says nothing."""
    from torch.fx.experimental.symbolic_shapes import is_concrete_int

    for tensor, axis, size in _dynamic_sizes(program, signature):
        if is_concrete_int(size):
            raise ExportError(_fixed(tensor, axis - int(signature.batched), int(size)))


def _dynamic_sizes(
    program: torch.export.ExportedProgram, signature: Signature
) -> Iterator[tuple[TensorSpec, int, int | torch.SymInt]]:
    """Each axis of any size, and what PyTorch made of it."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    for tensor, name in zip(signature.inputs, program.graph_signature.user_inputs, strict=True):
        for axis in dynamic(tensor, signature):
            yield tensor, axis, values[str(name)].shape[axis]


def _fixed(tensor: TensorSpec, axis: int, size: int) -> str:
    return (
        f"`{tensor.name}` may be of any size in number {axis + 1} of its shape {list(tensor.shape)}, and forward() "
        f"works with {size} alone; write {size} there, or have forward() follow the size of what it is given"
    )
