"""What an artifact tells of its tensors, whichever format it has; readers of the formats make it."""

from __future__ import annotations

from dataclasses import dataclass

ANY = -1
"""Of a size: any."""


class DamagedError(ValueError):
    """The file is certainly none of its format's: no backend would read it."""


@dataclass(frozen=True)
class Tensor:
    names: tuple[str, ...]
    """Any of them names it; the first is the usual one."""
    data_type: str | None = None
    """Triton's, without TYPE_; None: not told, or one that Triton does not have."""
    shape: tuple[int, ...] | None = None
    """Whole, with the batch axis where there is one; None: not told."""
    kind: str = ""
    """In the format's words, where it is no tensor."""
    has_batch: bool = False
    """Whether the file itself names the first axis a batch."""

    @property
    def name(self) -> str:
        return self.names[0]


@dataclass(frozen=True)
class Network:
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    defaults: tuple[Tensor, ...] = ()
    """Inputs that a request may leave out."""
    missing: tuple[str, ...] = ()
    """Files of weights that belong beside it, and are not there or too short: what is wrong, each."""


def named(tensors: tuple[Tensor, ...], name: str) -> Tensor | None:
    return next((tensor for tensor in tensors if name in tensor.names), None)
