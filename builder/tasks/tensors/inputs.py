"""The inputs: as the manifest declares them, and as the samples are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from builder.data import arrays
from builder.data.arrays import UNNAMED, Sample
from builder.tasks.task import Entry
from builder.tasks.tensors import names
from builder.tasks.tensors.drawing import drawn
from builder.tasks.tensors.spec import InputSpec
from builder.triton.signature import ANY_SIZE, DATA_TYPES, TensorSpec, data_type_of

SAVED_WITHOUT_NAMES = (
    f"np.savez calls arrays {UNNAMED} that it is given without a name; save np.savez(file, NAME=array)"
)


def samples_of(entry: Entry) -> tuple[list[Sample], tuple[str, ...]]:
    """The entry's samples, or drawn ones, and what to say of them. Raises ManifestError."""
    spec = entry.spec
    if spec.samples is None:
        return drawn(spec.inputs, spec.seed), (
            "the proof is on numbers drawn at random as `inputs` declares them, which may be unlike all that will "
            "come; give real ones with `samples:`",
        )
    with entry.at("samples"):
        samples = arrays.read(spec.samples, entry.base, spec.is_batched)
    return samples, _remarks(samples)


def _remarks(samples: Sequence[Sample]) -> tuple[str, ...]:
    import torch

    first = samples[0].tensors
    same = all(
        tensor.shape == first[name].shape and torch.equal(tensor, first[name])
        for sample in samples[1:]
        for name, tensor in sample.tensors.items()
    )
    if not same:
        return ()
    return (
        "there is one sample alone, so that nothing tells an artifact that computes the outputs from one that always "
        "gives those of this sample; give several",
    )


def specs_of(entry: Entry, samples: Sequence[Sample], key: str = "samples") -> tuple[TensorSpec, ...]:
    """The inputs of the samples of `key`, held to what is declared. Raises ManifestError."""
    declared: Mapping[str, InputSpec] = entry.spec.inputs
    given = tuple(samples[0].tensors)
    if declared:
        _require_names(entry, tuple(declared), given, key)
    elif UNNAMED in given:
        raise entry.error(f"the samples have an array {UNNAMED!r}: {SAVED_WITHOUT_NAMES}", key)
    return tuple(_spec(entry, name, declared.get(name), samples, key) for name in declared or given)


def require_fit(entry: Entry, samples: Sequence[Sample], taken: Sequence[TensorSpec], key: str) -> None:
    """Raise ManifestError for samples that the network does not take, which other samples have shown it to."""
    _require_names(entry, tuple(spec.name for spec in taken), tuple(samples[0].tensors), key)
    for spec in taken:
        for sample in samples:
            _require_value(entry, spec.name, sample, samples[0], key)
            tensor = sample.tensors[spec.name]
            found = TensorSpec(spec.name, data_type_of(tensor.dtype), tuple(tensor.shape))
            if found.data_type != spec.data_type or not _fits(found.shape, spec.shape):
                raise entry.error(
                    f"{spec.name!r} of {sample.name} is {found.data_type} {list(found.shape)}, and the network takes "
                    f"{spec.data_type} {list(spec.shape)}; give samples of that form",
                    key,
                )


def _fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(shape) == len(wanted) and all(
        size in (ANY_SIZE, found) for size, found in zip(wanted, shape, strict=True)
    )


def _require_names(entry: Entry, wanted: tuple[str, ...], given: tuple[str, ...], key: str) -> None:
    for name in wanted:
        if name not in given:
            hint = SAVED_WITHOUT_NAMES if UNNAMED in given else f"they have {', '.join(given)}"
            raise entry.error(f"the samples have no {name!r}, which is an input; {hint}", key)
    for name in given:
        if name not in wanted:
            close = difflib.get_close_matches(name, wanted, n=1)
            hint = f"is {close[0]!r} meant?" if close else "add it to `inputs`, or leave it out of the samples"
            raise entry.error(f"the samples have {name!r}, which is no input; {hint}", key)


def _spec(entry: Entry, name: str, declared: InputSpec | None, samples: Sequence[Sample], key: str) -> TensorSpec:
    if not declared and (fault := names.fault(name)):
        raise entry.error(f"the samples have an input {name!r}: {fault}", key)
    for sample in samples:
        _require_value(entry, name, sample, samples[0], key)
        if declared:
            _require_declared(entry, name, declared, sample)
    tensors = [sample.tensors[name] for sample in samples]
    sizes = zip(*(tensor.shape for tensor in tensors), strict=True)
    shape = declared.shape if declared else tuple(_size(set(axis)) for axis in sizes)
    spec = TensorSpec(name, data_type_of(tensors[0].dtype), shape)
    _require_axes(entry, spec, key)
    return spec


def _size(sizes: set[int]) -> int:
    return sizes.pop() if len(sizes) == 1 else ANY_SIZE


def _require_axes(entry: Entry, spec: TensorSpec, key: str) -> None:
    """What a config cannot say: that a whole tensor has no axis, and that an axis is empty."""
    if not spec.shape and not entry.spec.is_batched:
        raise entry.error(
            f"the input {spec.name!r} is one number without an axis, and Triton's tensors have one; give samples of "
            "shape [1], and let forward() take them so",
            *(("inputs", spec.name) if spec.name in entry.spec.inputs else (key,)),
        )
    if 0 in spec.shape:
        raise entry.error(f"{spec.name!r} is empty in all samples; give some with numbers", key)


def _require_value(entry: Entry, name: str, sample: Sample, first: Sample, key: str) -> None:
    tensor, other = sample.tensors[name], first.tensors[name]
    try:
        data_type_of(tensor.dtype)
    except ValueError as error:
        raise entry.error(f"{name!r} of {sample.name}: {error}; choose {', '.join(DATA_TYPES)}", key) from None
    for what, one, two in (("data types", tensor.dtype, other.dtype), ("numbers of axes", tensor.ndim, other.ndim)):
        if one != two:
            raise entry.error(
                f"{name!r} has different {what} in {first.name} ({two}) and {sample.name} ({one}); give all the same",
                key,
            )
    if tensor.is_floating_point() and tensor.isnan().any():
        raise entry.error(f"{name!r} of {sample.name} holds NaN, with which nothing can be compared; take it out", key)


def _require_declared(entry: Entry, name: str, declared: InputSpec, sample: Sample) -> None:
    tensor = sample.tensors[name]
    found = data_type_of(tensor.dtype)
    if found != declared.dtype:
        other = "" if entry.artifact else f", or declare {found}"
        raise entry.error(
            f"{_said(entry, name)} {declared.dtype}, and {sample.name} holds {found}, which is not changed unasked; "
            f"save the samples with .astype('{DATA_TYPES[declared.dtype]}'){other}",
            *_place(entry, name, "dtype"),
        )
    shape = list(tensor.shape)
    if not _fits(shape, declared.shape):
        batch = "; shapes are without the batch axis" if entry.spec.is_batched else ""
        raise entry.error(
            f"{_said(entry, name)} {list(declared.shape)}, and {sample.name} holds {shape}; correct one of them, -1 is "
            f"any size{batch}",
            *_place(entry, name, "shape"),
        )
    _require_range(entry, name, declared, sample)


def _said(entry: Entry, name: str) -> str:
    """Whose word it is what an input is: a file's own goes before the entry's, which may only narrow it."""
    return f"{entry.artifact.path.name} takes {name!r} as" if entry.artifact else f"{name!r} is declared"


def _place(entry: Entry, name: str, key: str) -> tuple[str, ...]:
    return ("samples",) if entry.artifact else ("inputs", name, key)


def _require_range(entry: Entry, name: str, declared: InputSpec, sample: Sample) -> None:
    import torch

    tensor = sample.tensors[name]
    if declared.range is None or not tensor.numel() or declared.dtype == "BOOL":
        return
    # PyTorch has no least of the larger unsigned integers.
    values = tensor.double() if tensor.is_floating_point() else tensor.to(torch.int64)
    least, most = values.min().item(), values.max().item()
    is_beyond = most > declared.range[1] if tensor.is_floating_point() else most >= declared.range[1]
    if least < declared.range[0] or is_beyond:
        raise entry.error(
            f"{sample.name} holds numbers of {least:g} to {most:g} in {name!r}, outside of the range; of integers, its "
            "second number is the first that is too large",
            "inputs", name, "range",
        )  # fmt: skip


def require_names(entry: Entry, key: str, given: Iterable[str]) -> None:
    """Raise ManifestError for names of the manifest that no tensor can have."""
    numbered: Any = entry.spec.outputs if key == "outputs" else None
    for number, name in enumerate(given):
        place = number if isinstance(numbered, tuple) else name
        if fault := names.fault(name):
            raise entry.error(f"{name!r}: {fault}", key, place)
