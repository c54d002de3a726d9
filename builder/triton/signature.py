"""Tensors as Triton names and types them."""

from __future__ import annotations

from dataclasses import dataclass

# NVIDIA's libtorch backend matches an input by the name of forward()'s argument, and an output by
# `<name>__<index>`; the other formats take whatever names they are given. These satisfy all.
NETWORK_INPUT = "INPUT__0"
NETWORK_OUTPUT = "OUTPUT__0"
IMAGE_INPUT = "IMAGE"
PROBABILITIES_OUTPUT = "PROBABILITIES"


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a served model; `shape` leaves out the batch dimension."""

    name: str
    data_type: str
    shape: tuple[int, ...]
