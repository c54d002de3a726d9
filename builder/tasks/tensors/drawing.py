"""Samples drawn at random, for networks of which there are no others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.data.arrays import Sample
from builder.tasks.task import Entry
from builder.tasks.tensors.spec import InputSpec
from builder.triton.signature import ANY_SIZE, FLOATS, torch_type

if TYPE_CHECKING:
    import torch

DRAWN_SIZES = (7, 12, 5)
"""Of axes of any size, in drawn samples. None is a batch size that is tried, which would hide what mixes the two."""
DRAWN = 8
"""Samples of each size."""


def require_drawable(entry: Entry) -> None:
    """Raise ManifestError unless `inputs` says all that drawing samples needs."""
    spec = entry.spec
    if not spec.inputs:
        raise entry.error(
            "there are no samples to compare the artifact with its network on; give `samples: FILE.npz`, whose arrays "
            "have the names of the inputs, or declare `inputs`, of which numbers are drawn"
        )
    for name, declared in spec.inputs.items():
        if declared.dtype not in FLOATS and declared.dtype != "BOOL" and declared.range is None:
            raise entry.error(
                f"without `samples` its numbers are drawn, and integers need a range, such as "
                f"`{{dtype: {declared.dtype}, shape: {list(declared.shape)}, range: [0, 100]}}`",
                "inputs", name,
            )  # fmt: skip
        _require_bounds(entry, name, declared)


def _require_bounds(entry: Entry, name: str, declared: InputSpec) -> None:
    """Whether the data type has all the numbers of the range."""
    import torch

    if declared.range is None or declared.dtype == "BOOL":
        return
    low, high = declared.range
    if declared.dtype in FLOATS:
        least, most = (sign * torch.finfo(torch_type(declared.dtype)).max for sign in (-1, 1))
    else:
        known = torch.iinfo(torch_type(declared.dtype))
        # PyTorch draws int64 for all of them.
        least, most = known.min, min(known.max, 2**63 - 2) + 1
        if low != int(low) or high != int(high):
            raise entry.error("a range of integers is of integers", "inputs", name, "range")
    if low < least or high > most:
        raise entry.error(f"{declared.dtype} holds {least:g} to {most:g} alone", "inputs", name, "range")


def drawn(declared: Mapping[str, InputSpec], seed: int) -> list[Sample]:
    """Samples of several sizes; within one, all axes of any size are equally long, as those of ids and masks are."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    is_dynamic = any(ANY_SIZE in spec.shape for spec in declared.values())
    sizes = DRAWN_SIZES if is_dynamic else DRAWN_SIZES[:1]
    return [
        Sample(
            f"drawn sample {number} of size {size}" if is_dynamic else f"drawn sample {number}",
            {name: _draw(spec, size, generator) for name, spec in declared.items()},
        )
        for size in sizes
        for number in range(DRAWN)
    ]


def _draw(spec: InputSpec, size: int, generator: torch.Generator) -> torch.Tensor:
    """Floats are normal, or even over their range; integers even over theirs; BOOL is either."""
    import torch

    shape = [size if one == ANY_SIZE else one for one in spec.shape]
    dtype = torch_type(spec.dtype)
    if spec.dtype in FLOATS:
        if spec.range is None:
            return torch.randn(shape, generator=generator).to(dtype)
        low, high = spec.range
        return (torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low).to(dtype)
    low, high = (0, 2) if spec.dtype == "BOOL" else map(int, spec.range or (0, 1))
    return torch.randint(low, high, shape, generator=generator).to(dtype)
