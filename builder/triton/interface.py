"""What a file that holds a network tells of its tensors, before it is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from builder.errors import ManifestError
from builder.triton.signature import ANY_SIZE, Signature, TensorSpec

HOW_TO_GIVE = "give `inputs: {NAME: {dtype: FP32, shape: [...]}, ...}`, in the order of its arguments"


@dataclass(frozen=True)
class ToldTensor:
    """One input or output, as far as its file tells."""

    name: str
    data_type: str | None = None
    """Triton's, as `TensorSpec` has it; None: not told."""
    shape: tuple[int, ...] | None = None
    """Whole, with the batch axis where there is one; -1 is any size; None: not told."""

    @property
    def is_whole(self) -> bool:
        return self.data_type is not None and self.shape is not None


@dataclass(frozen=True)
class Interface:
    """What an artifact takes and gives, in its own order."""

    inputs: tuple[ToldTensor, ...] | None
    """None: not told."""
    outputs: tuple[ToldTensor, ...] | None
    precision: str | None = None
    """fp32, fp16, bf16 or int8, by what most of its weights are; None: not told."""
    facts: dict[str, str] = field(default_factory=dict)
    """For the config: who wrote it, for which version of what."""
    beside: tuple[str, ...] = ()
    """Names of files that belong to it, relative to its folder: weights."""

    @property
    def fixed_batch(self) -> ToldTensor | None:
        """An input whose first axis has one size, rather one of several than of 1; None: there is none that is told."""
        sized = {tensor: tensor.shape[0] for tensor in self.inputs or () if tensor.shape}
        return max((tensor for tensor in sized if sized[tensor] != ANY_SIZE), key=lambda t: sized[t], default=None)

    @property
    def without_axes(self) -> ToldTensor | None:
        """An input or output that is a single number, and has no axis for a batch."""
        return next((tensor for tensor in (*(self.inputs or ()), *(self.outputs or ())) if tensor.shape == ()), None)


def own_names(signature: Signature, told: Interface) -> Signature:
    """The signature under the file's names, as far as it tells them."""
    inputs, outputs = (
        tuple(tensor.name for tensor in tensors or named)
        for tensors, named in ((told.inputs, signature.inputs), (told.outputs, signature.outputs))
    )
    return signature.with_names(inputs, outputs)


def inputs_of(told: Interface, given: Sequence[TensorSpec], batched: bool, file: str) -> tuple[TensorSpec, ...]:
    """The inputs in the file's order: what it tells, and what the entry gives where it does not.

    Raises ManifestError for what neither tells, and where they contradict.
    """
    if told.inputs is None:
        if not given:
            raise ManifestError(f"{file} does not tell its inputs; {HOW_TO_GIVE}")
        return tuple(given)
    by_name = {tensor.name: tensor for tensor in given}
    names = [tensor.name for tensor in told.inputs]
    if by_name and set(by_name) != set(names):
        raise ManifestError(f"{file} takes {', '.join(names)}, and the entry gives {', '.join(by_name)}")
    return tuple(_completed(tensor, by_name.get(tensor.name), batched, file) for tensor in told.inputs)


def _completed(told: ToldTensor, given: TensorSpec | None, batched: bool, file: str) -> TensorSpec:
    shape = told.shape[1:] if batched and told.shape else told.shape
    missing = [
        word for word, value in (("data type", told.data_type), ("shape", shape)) if value is None and given is None
    ]
    if missing:
        raise ManifestError(f"{file} does not tell the {' and the '.join(missing)} of {told.name}; {HOW_TO_GIVE}")
    if given is None:
        return TensorSpec(told.name, str(told.data_type), shape or ())
    if told.data_type not in (None, given.data_type):
        raise ManifestError(f"{told.name} of {file} is {told.data_type}, and the entry says {given.data_type}")
    if shape is not None and not _agree(shape, given.shape):
        raise ManifestError(f"{told.name} of {file} is {list(shape)}, and the entry says {list(given.shape)}")
    return given


def _agree(told: tuple[int, ...], given: tuple[int, ...]) -> bool:
    """Whether the entry says the same, or narrows an axis of any size."""
    return len(told) == len(given) and all(mine in (ANY_SIZE, yours) for mine, yours in zip(told, given, strict=True))
