"""What the workers of a laid out repository pass through shared memory when they start."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import ConfigError
from builder.launchers import sharing
from builder.repository import layout
from builder.triton import model_config

BYTES = {
    "BOOL": 1,
    "UINT8": 1,
    "INT8": 1,
    "UINT16": 2,
    "INT16": 2,
    "FP16": 2,
    "BF16": 2,
    "UINT64": 8,
    "INT64": 8,
    "FP64": 8,
}
USUAL_BYTES = 4
"""Of one value; an encoded image to warm up with has its place in what every worker begins with."""


@dataclass(frozen=True)
class Needs:
    workers: int
    bytes: int
    """Shared memory of all workers together, in bytes, to load every model and warm it up."""


def of(models: Path) -> Needs:
    """Where every model but the ensembles is run by the Python backend, as in the embedded server."""
    found = [each for path in sorted(models.glob(f"*/{layout.CONFIG}")) if (each := _of(path))]
    return Needs(sum(each.workers for each in found), sum(each.bytes for each in found))


def _of(path: Path) -> Needs | None:
    try:
        model = model_config.read(path)
    except (OSError, ConfigError):
        return None  # the server will say what is wrong with it
    if model.platform == "ensemble":
        return None
    workers = sum(max(1, group.count) for group in model.instance_group) or 1
    return Needs(workers, workers * (sharing.LEAST_BYTES + _warm_up_bytes(model)))


def _warm_up_bytes(model: Any) -> int:
    """A side that may have any size is as long as the longest that the model is warmed up with."""
    inputs = [tensor for each in model.model_warmup for tensor in each.inputs.values()]
    batch = max((each.batch_size for each in model.model_warmup), default=1)
    longest = max((int(side) for tensor in inputs for side in tensor.dims), default=1)
    return max(1, batch) * sum(_bytes(tensor, longest) for tensor in (*model.input, *model.output))


def _bytes(tensor: Any, longest: int) -> int:
    kind = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[tensor.data_type].name
    sides = [int(side) if side >= 0 else longest for side in tensor.dims]
    return BYTES.get(kind.removeprefix("TYPE_"), USUAL_BYTES) * math.prod(sides)
