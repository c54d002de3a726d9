"""How token numbers reach forward(), and what of its result counts."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from builder.errors import ExportError
from builder.networks.heads import with_head
from builder.networks.outputs import described
from builder.tasks.tensors.calling import parameters_of
from builder.tasks.text.entries import Wanted
from builder.triton.signature import ANY_SIZE, NETWORK_OUTPUT, Signature, TensorSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
ARGUMENTS = (IDS, MASK, TYPES)
"""In the order of the step's outputs; by these names transformers' networks take them."""
RESULTS = ("last_hidden_state", "logits", "sentence_embedding", "token_embeddings")
"""What networks that give several call the one that counts."""
TINY = 1e-9
POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def inputs_of(module: nn.Module, name: str) -> tuple[str, ...]:
    """What forward() takes, by name, or by position where it has other names. Raises ExportError."""
    parameters = parameters_of(module)
    names = [one.name for one in parameters]
    if IDS in names and (MASK in names or any(one.kind is Parameter.VAR_KEYWORD for one in parameters)):
        return tuple(argument for argument in ARGUMENTS if argument != TYPES or TYPES in names)
    needed = [one for one in parameters if one.kind in POSITIONAL and one.default is Parameter.empty]
    takes_any = any(one.kind is Parameter.VAR_POSITIONAL for one in parameters)
    if (len(needed) in (2, 3) or (takes_any and len(needed) < 2)) and IDS not in names:
        return ARGUMENTS[: max(2, len(needed))]
    raise ExportError(
        f"{name}: forward({', '.join(names)}) does not take texts; it is to take input_ids and attention_mask, and "
        "perhaps token_type_ids, int64 [B, S] each. Without the mask it could not tell a text from its padding"
    )


def called(network: nn.Module, inputs: tuple[str, ...]) -> nn.Module:
    """One that takes them by position: the network itself, where these are forward()'s first ones."""
    from torch import nn

    names = [one.name for one in parameters_of(network)]
    if IDS not in names or tuple(names[: len(inputs)]) == inputs:
        return network

    class ByName(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *tensors: torch.Tensor) -> Any:
            return self.network(**dict(zip(inputs, tensors, strict=True)))

    return ByName()


def text_head(network: nn.Module, inputs: tuple[str, ...], wanted: Wanted, activation: nn.Module | None) -> nn.Module:
    """int64 [B, S] of each input -> float32 [B, D], or scores or probabilities [B, classes]."""
    arguments = [f"INPUT__{number}" for number in range(len(inputs))]

    def pooled(outputs: tuple[torch.Tensor, ...], given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (POOLS[wanted.pool](outputs[0], given[1]),)

    return with_head(called(network, inputs), arguments, lambda result: (picked(result, wanted),), activation, pooled)


def activation_of(wanted: Wanted) -> nn.Module:
    from torch import nn

    class Unit(nn.Module):
        """Each row divided by its length; zeros stay zeros, as sentence-transformers leaves them."""

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return nn.functional.normalize(rows, dim=1)

    if wanted.activation is None:
        return Unit() if wanted.normalize == "l2" else nn.Identity()
    kinds: dict[str, nn.Module] = {"softmax": nn.Softmax(dim=1), "sigmoid": nn.Sigmoid(), "none": nn.Identity()}
    return kinds[wanted.activation]


def picked(result: Any, wanted: Wanted) -> torch.Tensor:
    """The one tensor of a result that counts. Raises ExportError where it is none of the form that is wanted."""
    import torch

    found: Any = result
    if isinstance(result, Mapping):
        key = next((key for key in RESULTS if key in result), None) or (next(iter(result)) if len(result) == 1 else "")
        found = result.get(key)
    elif isinstance(result, tuple | list) and result:
        found = result[0]
    axes = 2 if wanted.pool == "none" else 3
    if isinstance(found, torch.Tensor) and found.is_floating_point() and found.ndim == axes:
        return found
    raise ExportError(f"{_expected(wanted)}; this gives {described(result)}{_advice(found, wanted)}")


def _expected(wanted: Wanted) -> str:
    if wanted.is_classes:
        return "a classifier of texts gives scores [B, classes]"
    if wanted.pool == "none":
        return "with `pool: none` the network gives one vector a text, [B, D]"
    return f"with `pool: {wanted.pool}` the network gives a vector for each token, [B, S, D]"


def _advice(found: Any, wanted: Wanted) -> str:
    axes = getattr(found, "ndim", 0)
    if axes == 3 and wanted.is_classes:
        return "; without `activation`, and with `pool: mean`, it makes vectors"
    if axes == 3:
        return "; set `pool: mean` or `pool: cls`"
    if axes == 2 and not wanted.is_classes:
        return "; set `pool: none`, or, of a classifier, `activation: softmax`"
    return f"; name a callable whose module gives that alone ({', '.join(RESULTS[:2])} are known by name)"


def _mean(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Of those that are no padding; zeros of a text without tokens."""
    weights = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weights).sum(1) / weights.sum(1).clamp_min(TINY)


def _first(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    del mask
    return tokens[:, 0]


def _as_it_is(rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    del mask
    return rows


POOLS = {"mean": _mean, "cls": _first, "none": _as_it_is}


def signature(inputs: tuple[str, ...], size: int) -> Signature:
    """Of the network with its head: rows of any length, and one vector, or the probabilities, of each."""
    rows = tuple(TensorSpec(name, "INT64", (ANY_SIZE,)) for name in inputs)
    return Signature(rows, (TensorSpec(NETWORK_OUTPUT, "FP32", (size,)),))
