"""Requests with the artifact's answers, recorded for the servers that are to give the same."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from builder.build.entry import Entry
from builder.repository.golden import TOLERANCES, Golden, GoldenSet, GoldenTensor
from builder.tasks.task import Example, Reference
from builder.triton.signature import data_type_of, raw_bytes
from builder.types import Predict

if TYPE_CHECKING:
    import torch


def golden_set(entry: Entry, reference: Reference, predict: Predict) -> GoldenSet:
    """The task's examples as the protocol sends them. Raises VerificationError where the artifact gives no answer."""
    tolerance = TOLERANCES.get(entry.spec.precision, max(TOLERANCES.values()))
    batched = reference.signature.batched
    examples = entry.task.examples(entry, reference, predict)
    return GoldenSet(tuple(_golden(example, batched) for example in examples), tolerance)


def _golden(example: Example, batched: bool) -> Golden:
    return Golden(_tensors(example.inputs, batched), _tensors(example.outputs, batched))


def _tensors(named: Mapping[str, bytes | torch.Tensor], batched: bool) -> tuple[GoldenTensor, ...]:
    return tuple(_tensor(name, value, batched) for name, value in named.items())


def _tensor(name: str, value: Any, batched: bool) -> GoldenTensor:
    if isinstance(value, bytes):
        shape = (1, 1) if batched else (1,)
        return GoldenTensor(name, "BYTES", shape, struct.pack("<I", len(value)) + value)
    return GoldenTensor(name, data_type_of(value.dtype), tuple(value.shape), raw_bytes(value))
