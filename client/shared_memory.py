"""Inputs by way of the host's shared memory: the request carries a name instead of megabytes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import struct
import threading
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import shared_memory
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING

from client.processes import here
from client.types import Tensor

if TYPE_CHECKING:
    from client.types import Array

LOG = logging.getLogger("repo-client")
# Where Linux keeps what shm_open makes.
FOLDER = Path("/dev/shm")
# Names of regions, and of their files. Whoever made them holds a lock on the file while it lives: by that the launcher
# of a server tells what dead clients have left (builder/launchers/regions.py).
NAME = "repo-client-held-"
# Left to others: the workers of a server on this machine ask for more as its batches grow.
LEFT_BYTES = 64 * 1024 * 1024
# Below it, the request by value was as fast (benchmarks/clients.py).
PAYS_FROM_BYTES = 512 * 1024
SMALLEST_REGION = 1024 * 1024
LENGTH = struct.Struct("<I")
"""Before each element of a BYTES tensor."""
# multiprocessing's tracker has a lock that a child would find held for ever, if a thread of the parent was about to
# make or to unlink a region at the moment of the fork. So a fork waits for that moment to pass.
_TRACKED = threading.RLock()
os.register_at_fork(before=_TRACKED.acquire, after_in_parent=_TRACKED.release, after_in_child=_TRACKED.release)


class NoRoom(Exception):
    """There is no shared memory to be had; says why."""


class Region:
    """A piece of shared memory of this process, which the server may have been told of. Raises NoRoom.

    It has an address for `size` bytes, and memory for those that were reserved.
    """

    def __init__(self, size: int) -> None:
        self.name = f"{NAME}{secrets.token_hex(8)}"
        try:
            with _TRACKED:
                self._memory = shared_memory.SharedMemory(self.name, create=True, size=size)
        except OSError as error:
            raise NoRoom(f"{FOLDER}: {error.strerror}") from None
        self.key = f"/{self.name}"
        self.size = size
        self.known_to_server = False
        self._reserved = 0
        self._file = -1
        try:
            self._file = _locked(FOLDER / self.name)
        except OSError as error:
            self.destroy()
            raise NoRoom(f"{FOLDER / self.name}: {error.strerror}") from None

    def reserve(self, size: int) -> None:
        """Have the memory before it is written to: a page that is lacking then ends the process. Raises NoRoom."""
        if size <= self._reserved:
            return
        try:
            room = os.fstatvfs(self._file)
            if room.f_blocks and room.f_bavail * room.f_frsize < size - self._reserved + LEFT_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.posix_fallocate(self._file, 0, size)
        except OSError as error:
            raise NoRoom(f"{FOLDER} has no {size} bytes to spare: {error.strerror}") from None
        self._reserved = size

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
        with _TRACKED, contextlib.suppress(FileNotFoundError):  # others may have tidied up
            self._memory.unlink()
        _unlock(self._file)
        with contextlib.suppress(BufferError):  # it is being written to as the process ends
            self._memory.close()


_locks: set[int] = set()


def _locked(path: Path) -> int:
    """The file, open; the lock ends with this process, however that ends. Raises OSError."""
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    _locks.add(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)  # a sweeper that looks at a new file holds it for a moment
    except BaseException:
        _unlock(file)
        raise
    return file


def _unlock(file: int) -> None:
    if file in _locks:
        _locks.discard(file)
        os.close(file)


def _leave_to_parent() -> None:
    """A child does not keep alive what its parent has: the lock is everybody's who has the file open."""
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_leave_to_parent)


class Regions:
    """Regions that are lent to one request each, and kept for the next. They belong to the process that made them."""

    def __init__(self) -> None:
        self._owner = here()
        self._free: list[Region] = []
        self._all: list[Region] = []
        self._lock = threading.Lock()
        self._has_told = False
        # In children of multiprocessing as well, which run nothing of atexit's; a copy in a child does nothing.
        Finalize(self, _destroy, (self._all,), exitpriority=0)

    def take(self, tensors: Sequence[Tensor]) -> Region:
        """Raises NoRoom."""
        size = sum(_aligned(byte_size(tensor.data)) for tensor in tensors)
        with self._lock:
            region = self._free_one(size) or self._new(size)
            try:
                region.reserve(size)
            except BaseException:
                self._free.append(region)
                raise
            return region

    def _free_one(self, size: int) -> Region | None:
        for region in self._free:
            if region.size >= size:
                self._free.remove(region)
                return region
        return None

    def _new(self, size: int) -> Region:
        # Powers of two, so that images of all sizes come to share a few regions.
        region = Region(max(SMALLEST_REGION, 1 << (size - 1).bit_length()))
        self._all.append(region)
        return region

    def give_back(self, region: Region) -> None:
        if here() != self._owner:  # a call of the parent's, which ends in a child as memory is cleared
            return
        with self._lock:
            if region in self._all:
                self._free.append(region)

    def drop(self, region: Region) -> None:
        """As the server does not take it, which keeps no memory for others; nor does what nobody was told of."""
        if here() != self._owner:
            return
        with self._lock:
            for one in [region, *(free for free in self._free if not free.known_to_server)]:
                self._free = [free for free in self._free if free is not one]
                self._all.remove(one)  # in place: it is what is destroyed at the end
                one.destroy()

    def tell(self, lack: NoRoom) -> None:
        """Once, since it may be so for every request."""
        with self._lock:
            is_news, self._has_told = not self._has_told, True
        if is_news:
            LOG.warning("inputs are sent by value, which takes longer: %s", lack)

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
