"""Files of the user's as networks: modules without parameters, which run the file in this process.

`run` takes the inputs in the file's order. What it gives is told by the file's names of its outputs, where it has any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import NetworkError
from builder.networks.heads import KEEPS_TYPES
from builder.triton.interface import Interface, ToldTensor
from builder.triton.signature import FLOATS, torch_type
from builder.types import Artifact, Network, Predict
from builder.util.hashing import hashed

if TYPE_CHECKING:
    from torch import nn

ITSELF = "itself"


def network(artifact: Artifact, module: nn.Module, verified_against: str = ITSELF) -> Network:
    """`module` runs the artifact, or is what the artifact is held to."""
    facts = provenance(artifact.path, artifact.interface.beside) | {"verified_against": verified_against}
    interface = None if artifact.is_program else artifact.interface
    return Network(module, None, None, True, facts, interface=interface)


def provenance(path: Path, beside: Sequence[str]) -> dict[str, str]:
    """The file's name, and what it and its weights consist of."""
    digests = hashed([path, *(path.parent / name for name in beside)])
    facts = {"source": path.name, "source_sha256": digests.pop(path)}
    return facts | ({"source_weights_sha256": " ".join(digests.values())} if digests else {})


def as_module(run: Callable[..., Any]) -> nn.Module:
    """A module that gives what `run` gives, of the same data types."""
    from torch import nn

    class Running(nn.Module):
        def forward(self, *tensors: Any) -> Any:
            return run(*tensors)

    module = Running().eval()
    setattr(module, KEEPS_TYPES, True)
    return module


def by_position(predict: Predict, inputs: Sequence[str]) -> Callable[..., Any]:
    """A function of named tensors, as one of tensors in the file's order; it still names what it gives."""

    def run(*tensors: Any) -> Any:
        return predict({name: tensor.contiguous() for name, tensor in zip(inputs, tensors, strict=True)})

    return run


def named_as(module: nn.Module, told: Interface, name: str) -> nn.Module:
    """A network that an artifact is held to, whose results get the artifact's names and data types, if these are told.

    Raises NetworkError, once it is run, where it does not give what the artifact gives.
    """
    if told.outputs is None:
        return module
    outputs = told.outputs
    held = as_module(lambda *tensors: _named(module(*tensors), outputs, name))
    held.network = module
    return held


def _named(result: Any, outputs: Sequence[ToldTensor], network: str) -> dict[str, Any]:
    by_name = _by_name(result, [tensor.name for tensor in outputs], network)
    return {tensor.name: _as_told(by_name[tensor.name], tensor) for tensor in outputs}


def _by_name(result: Any, names: Sequence[str], network: str) -> Mapping[str, Any]:
    if isinstance(result, Mapping) and set(names) <= set(result):
        return result
    results = result if isinstance(result, tuple | list) else (result,)
    if not isinstance(result, Mapping) and len(results) == len(names):
        return dict(zip(names, results, strict=True))
    given = ", ".join(map(str, result)) if isinstance(result, Mapping) else f"{len(results)} of them"
    raise NetworkError(
        f"the artifact gives {', '.join(names)}, and {network}, which it is held to, gives {given}; name one that "
        "gives the same, in this order"
    )


def _as_told(value: Any, told: ToldTensor) -> Any:
    """Half precisions are the file's own business; that integers are integers is the network's."""
    if told.data_type in FLOATS and value.is_floating_point():
        return value.to(torch_type(str(told.data_type)))
    return value


def alone(module: nn.Module) -> nn.Module:
    """A network whose one output is given by itself, in float32, not by its name nor in a tuple: as classifiers do."""
    scores = as_module(lambda *tensors: _one(module(*tensors)))
    scores.network = module
    return scores


def _one(result: Any) -> Any:
    if isinstance(result, Mapping) and len(result) == 1:
        result = next(iter(result.values()))
    if isinstance(result, tuple | list) and len(result) == 1:
        result = result[0]
    return result.float() if hasattr(result, "is_floating_point") and result.is_floating_point() else result
