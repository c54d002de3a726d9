"""The sizes that a TensorRT plan is built for: it takes none beyond them, and is fastest at one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from builder.errors import ExportError
from builder.exporters.settings import PlanSettings
from builder.triton.signature import ANY_SIZE, Signature, TensorSpec
from builder.types import ExportRequest, Target

ROOM = 4
"""How many times the optimum is taken, where nothing is said of the largest."""
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """Of one input, with the batch axis where there is one."""

    name: str
    least: Shape
    optimum: Shape
    largest: Shape

    @property
    def shapes(self) -> tuple[Shape, Shape, Shape]:
        return self.least, self.optimum, self.largest

    def __str__(self) -> str:
        return f"`{self.name}` of {list(self.least)} to {list(self.largest)}, optimum {list(self.optimum)}"


def of(request: ExportRequest, settings: PlanSettings) -> tuple[Profile, ...]:
    """One for each input; none where all sizes are fixed. Raises ExportError where the settings contradict."""
    signature = request.signature
    _require_inputs(signature, settings)
    if not signature.batched and all(ANY_SIZE not in tensor.shape for tensor in signature.inputs):
        return ()
    batches = _batches(request.target, settings) if signature.batched else ((), (), ())
    first = int(signature.batched)
    return tuple(
        _profile(
            tensor,
            tuple(request.examples[tensor.name].shape[first:]),
            batches,
            settings,
            settings.max_shapes.get(tensor.name) or request.largest.get(tensor.name),
        )
        for tensor in signature.inputs
    )


def _batches(target: Target, settings: PlanSettings) -> tuple[Shape, Shape, Shape]:
    return (1,), (optimum_batch(target, settings),), (target.max_batch_size,)


def optimum_batch(target: Target, settings: PlanSettings) -> int:
    return settings.optimum_batch_size or target.max_batch_size


def _profile(
    tensor: TensorSpec,
    example: Shape,
    batches: tuple[Shape, Shape, Shape],
    settings: PlanSettings,
    most: Shape | None,
) -> Profile:
    """`most`: what the settings, or the task, say of the largest."""
    optimum = settings.optimum_shapes.get(tensor.name) or _optimum(tensor, example, settings, most)
    least = settings.min_shapes.get(tensor.name, (1,) * len(optimum))
    largest = most or tuple(size * ROOM for size in optimum)
    found = [_filled(tensor, shape) for shape in (least, optimum, largest)]
    if not all(low <= best <= high for low, best, high in zip(*found, strict=True)):
        raise ExportError(
            f"tensorrt: `{tensor.name}` is of {list(found[0])} to {list(found[2])}, and the optimum {list(found[1])} "
            "is not between them; see min_shapes, optimum_shapes and max_shapes"
        )
    return Profile(tensor.name, *(batch + shape for batch, shape in zip(batches, found, strict=True)))


def _optimum(tensor: TensorSpec, example: Shape, settings: PlanSettings, high: Shape | None) -> Shape:
    """The sample's sizes, as far as what is said of the others allows."""
    low = settings.min_shapes.get(tensor.name, example)
    enough = tuple(map(max, example, low))
    return tuple(map(min, enough, high)) if high else enough


def _filled(tensor: TensorSpec, sizes: Shape) -> Shape:
    """Those of the signature, but for what it leaves open."""
    return tuple(size if fixed == ANY_SIZE else fixed for fixed, size in zip(tensor.shape, sizes, strict=True))


def _require_inputs(signature: Signature, settings: PlanSettings) -> None:
    """Raise ExportError for sizes of what is no input, or of another number of axes."""
    ranks = {tensor.name: len(tensor.shape) for tensor in signature.inputs}
    for key in ("min_shapes", "optimum_shapes", "max_shapes"):
        given: Mapping[str, Shape] = getattr(settings, key)
        for name, shape in given.items():
            if name not in ranks:
                raise ExportError(f"tensorrt: {key}: `{name}` is no input; they are {', '.join(ranks)}")
            if len(shape) != ranks[name]:
                raise ExportError(f"tensorrt: {key}: `{name}` has {ranks[name]} sizes, without the batch")
