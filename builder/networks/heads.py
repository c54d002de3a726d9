"""What stands around a network to be exported: it takes and gives tensors in the order of a signature.

Everything that an exporter asks of a module is here: positional inputs, outputs in their order, float32 wherever a
floating-point number leaves it, and `network`, the part that is computed in half precision or quantised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from builder.errors import NetworkError

if TYPE_CHECKING:
    import torch
    from torch import nn

Outputs = Callable[[Any], "tuple[torch.Tensor, ...]"]
"""What a network's result is taken apart by: one tensor an output, in the signature's order."""
Combined = Callable[["tuple[torch.Tensor, ...]", "tuple[torch.Tensor, ...]"], "tuple[torch.Tensor, ...]"]
"""What is made of a network's outputs and of its inputs, one tensor an output: padding is left out by the mask."""
KEEPS_TYPES = "keeps_types"
"""Attribute of a module whose outputs are of the data types that its file has told."""


def with_head(
    network: nn.Module,
    inputs: Sequence[str],
    outputs: Outputs,
    activation: nn.Module | None = None,
    combined: Combined | None = None,
) -> nn.Module:
    """A module whose forward() has the arguments `inputs`, which it hands on in this order: INPUT__0, INPUT__1, ...,
    whatever the signature calls them, since NVIDIA's libtorch looks for these in what is traced.

    It gives one tensor where `outputs` gives one, else a tuple. What is floating-point leaves it as float32, whatever
    the network computes in, unless it is a file of the user's, which says what it gives; `activation` is applied to
    each output, in float32, and before it `combined`, which may look at what went in.
    """
    from torch import nn

    widened = _as_it_is if any(getattr(part, KEEPS_TYPES, False) for part in network.modules()) else _widened

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.activation = activation or nn.Identity()

        def answer(self, *tensors: torch.Tensor) -> Any:
            wide = tuple(widened(output) for output in outputs(self.network(*tensors)))
            given = tuple(self.activation(output) for output in (combined(wide, tensors) if combined else wide))
            return given[0] if len(given) == 1 else given

    return _with_arguments(Head, inputs)().eval()


def _as_it_is(output: torch.Tensor) -> torch.Tensor:
    return output


def _widened(output: torch.Tensor) -> torch.Tensor:
    return output.float() if output.is_floating_point() and output.dtype.itemsize < 4 else output


def _with_arguments(head: type[nn.Module], names: Sequence[str]) -> type[nn.Module]:
    """The class with a forward() of these arguments: what traces it reads their names, and cannot follow `*tensors`."""
    listed = ", ".join(names)
    code: dict[str, Any] = {}
    exec(f"def forward(self, {listed}):\n    return self.answer({listed})\n", code)
    head.forward = code["forward"]
    return head


def one_tensor(result: Any) -> tuple[torch.Tensor, ...]:
    """The outputs of a network that gives one tensor. Raises NetworkError where it gives something else."""
    if not hasattr(result, "is_floating_point"):
        raise NetworkError(f"the network gives a {type(result).__name__}, not one tensor")
    return (result,)


def as_tensors(names: Sequence[str], result: Any) -> dict[str, torch.Tensor]:
    """What a head gives, by the signature's names of its outputs."""
    return dict(zip(names, result if isinstance(result, tuple) else (result,), strict=True))


def in_order(tensors: Mapping[str, torch.Tensor], names: Sequence[str]) -> tuple[torch.Tensor, ...]:
    """The tensors as a head takes them."""
    return tuple(tensors[name] for name in names)
