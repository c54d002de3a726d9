"""Inputs by way of the host's shared memory: the request carries a name instead of megabytes."""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
import threading
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import shared_memory
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING

from client.processes import here
from client.types import Tensor

if TYPE_CHECKING:
    from client.types import Array

# Below it, the request by value was as fast (benchmarks/clients.py).
PAYS_FROM_BYTES = 512 * 1024
SMALLEST_REGION = 1024 * 1024
LENGTH = struct.Struct("<I")
"""Before each element of a BYTES tensor."""
# multiprocessing's tracker has a lock that a child would find held for ever, if a thread of the parent was about to
# make or to unlink a region at the moment of the fork. So a fork waits for that moment to pass.
_TRACKED = threading.RLock()
os.register_at_fork(before=_TRACKED.acquire, after_in_parent=_TRACKED.release, after_in_child=_TRACKED.release)


class Region:
    """A piece of shared memory of this process, which the server may have been told of."""

    def __init__(self, size: int) -> None:
        with _TRACKED:
            self._memory = shared_memory.SharedMemory(create=True, size=size)
        self.key = self._memory.name
        self.name = f"repo-client-{self.key.strip('/')}-{secrets.token_hex(4)}"
        self.size = size
        self.known_to_server = False

    def place(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The tensors' data, copied in one behind the other."""
        placed, offset = [], 0
        for tensor in tensors:
            size = byte_size(tensor.data)
            self._write(tensor.data, offset)
            placed.append(replace(tensor, region=self.name, offset=offset, size=size))
            offset += _aligned(size)
        return tuple(placed)

    def _write(self, data: Array, offset: int) -> None:
        import numpy as np

        buffer = self._memory.buf
        assert buffer is not None  # until it is destroyed
        if data.dtype != np.object_:
            np.ndarray(data.shape, data.dtype, buffer=buffer[offset:])[...] = data
            return
        for element in data.flat:
            LENGTH.pack_into(buffer, offset, len(element))
            buffer[offset + LENGTH.size : offset + LENGTH.size + len(element)] = element
            offset += LENGTH.size + len(element)

    def destroy(self) -> None:
        with _TRACKED:
            self._memory.unlink()
        with contextlib.suppress(BufferError):  # it is being written to as the process ends
            self._memory.close()


class Regions:
    """Regions that are lent to one request each, and kept for the next. They belong to the process that made them."""

    def __init__(self) -> None:
        self._owner = here()
        self._free: list[Region] = []
        self._all: list[Region] = []
        self._lock = threading.Lock()
        # In children of multiprocessing as well, which run nothing of atexit's; a copy in a child does nothing.
        Finalize(self, _destroy, (self._all,), exitpriority=0)

    def take(self, tensors: Sequence[Tensor]) -> Region:
        size = sum(_aligned(byte_size(tensor.data)) for tensor in tensors)
        with self._lock:
            for region in self._free:
                if region.size >= size:
                    self._free.remove(region)
                    return region
            # Powers of two, so that images of all sizes come to share a few regions.
            region = Region(max(SMALLEST_REGION, 1 << (size - 1).bit_length()))
            self._all.append(region)
            return region

    def give_back(self, region: Region) -> None:
        if here() != self._owner:  # a call of the parent's, which ends in a child as memory is cleared
            return
        with self._lock:
            self._free.append(region)

    def known(self) -> list[str]:
        """Names that the server was told."""
        with self._lock:
            return [region.name for region in self._all if region.known_to_server]

    def destroy(self) -> None:
        with self._lock:
            _destroy(self._all)
            self._free.clear()


def _destroy(regions: list[Region]) -> None:
    while regions:
        regions.pop().destroy()


def pays(tensors: Sequence[Tensor]) -> bool:
    return sum(byte_size(tensor.data) for tensor in tensors) >= PAYS_FROM_BYTES


def byte_size(data: Array) -> int:
    """Bytes of a tensor on the wire."""
    import numpy as np

    if data.dtype != np.object_:
        return data.nbytes
    return sum(LENGTH.size + len(element) for element in data.flat)


def _aligned(size: int) -> int:
    return (size + 63) // 64 * 64
