"""What PyTorch's exporters keep of a network after they are done with it, given back."""

from __future__ import annotations

import ctypes
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

PAGE_BYTES = 4096
MADV_PAGEOUT = 21
LARGE_BYTES = 1024 * 1024


@contextmanager
def weights_released(module: nn.Module) -> Iterator[None]:
    """On leaving, empty the module's weights, and all that is large, was made inside and still lives.

    torch.export and the compiler keep them in caches for the life of the process (seen: twice the
    weights), so that each build would hold its network until the last is done. What is small may
    be a constant that PyTorch goes on to use.
    """
    before = [weakref.ref(tensor) for tensor in _tensors()]
    try:
        yield
    finally:
        weights = {id(tensor) for tensor in module.state_dict(keep_vars=True).values()}
        old = {id(reference()) for reference in before}
        gc.collect()
        for tensor in _tensors():
            if id(tensor) in weights or (id(tensor) not in old and _nbytes(tensor) >= LARGE_BYTES):
                _empty(tensor)


def _tensors() -> list[torch.Tensor]:
    """All real ones; fake and erased ones are of types of their own."""
    import torch

    return [found for found in gc.get_objects() if type(found) in (torch.Tensor, torch.nn.Parameter)]


def _nbytes(tensor: torch.Tensor) -> int:
    try:
        return tensor.nbytes
    except RuntimeError:  # tensors without storage, such as packed ones
        return 0


def _empty(tensor: torch.Tensor) -> None:
    import torch

    with suppress(RuntimeError, NotImplementedError), torch.no_grad():  # some kinds cannot be, such as packed ones
        tensor.data = torch.empty(0, dtype=tensor.dtype)


def weights_of(module: nn.Module) -> list[torch.Tensor]:
    """Without what a state dict may hold besides: extra state is anything."""
    return [*module.parameters(), *module.buffers()]


def page_out(module: nn.Module) -> None:
    """Let the system take the pages of weights that are mapped from a file; reading them brings them back."""
    for tensor in weights_of(module):
        start = -(-tensor.data_ptr() // PAGE_BYTES) * PAGE_BYTES
        _advise_out(start, tensor.data_ptr() + tensor.nbytes)


def page_out_file(path: Path) -> None:
    """The same for all that is mapped of a file, where the system is Linux."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        if line.endswith(str(path.resolve())):
            start, end = (int(number, 16) for number in line.split(maxsplit=1)[0].split("-"))
            _advise_out(start, end)


def _advise_out(start: int, end: int) -> None:
    length = (end - start) // PAGE_BYTES * PAGE_BYTES
    libc: Any = ctypes.CDLL(None)
    if length > 0 and hasattr(libc, "madvise"):
        # Advice alone: it fails without harm where the system or the mapping does not know it.
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), MADV_PAGEOUT)
