"""Requests that a server makes to a model of its own accord, before the model is ready."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WarmUpInput:
    """One tensor of a request, zeros unless it says more."""

    name: str
    data_type: str
    shape: tuple[int, ...]
    """Of one sample, without the batch axis; every size is a number here."""
    file: str | None = None
    """In the model's warmup/: the raw values of one sample. Before each text stand the four bytes of its length."""
    random: bool = False
    """Texts are empty all the same."""


@dataclass(frozen=True)
class WarmUp:
    name: str
    inputs: tuple[WarmUpInput, ...]
    batch_size: int = 1
    """The inputs are repeated so often, where the model has a batch."""
