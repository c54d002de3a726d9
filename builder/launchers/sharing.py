"""How much of /dev/shm each worker of the Python backend begins with.

A region is had whole when its worker starts, grows with the largest batch that passes through it, and never shrinks.
Containers have 64 MiB for all of them unless they are told otherwise. The standard library alone: the first process
of a container uses this, too.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

FOLDER = Path("/dev/shm")
MIB = 1024 * 1024
MOST_BYTES = 64 * MIB
"""A batch of images in and a batch of tensors out, mostly without growing."""
LEAST_BYTES = MIB
"""The backend's own default."""
SCARCE_BYTES = 1024 * MIB
"""For each worker, under which large images in large batches would not have a place."""
HINT = (
    "give it more: docker run --shm-size={size}m, a tmpfs or a memory-backed emptyDir at /dev/shm in files of Compose, "
    "Swarm and Kubernetes, or mount -o remount,size={size}m /dev/shm"
)


def free(folder: Path = FOLDER) -> int | None:
    """Free bytes of /dev/shm; None where nothing limits them, or nothing tells."""
    try:
        room = os.statvfs(folder)
    except OSError:
        return None
    return room.f_bavail * room.f_frsize if room.f_blocks else None  # a tmpfs of size 0 has no limit


def begin_with(workers: int, room: int | None) -> int:
    """Bytes for each worker. Half of the room is for growth, for workers that are started anew, and for clients."""
    if room is None:
        return MOST_BYTES
    return max(LEAST_BYTES, min(MOST_BYTES, room // (2 * max(1, workers)) // MIB * MIB))


def is_scarce(workers: int, room: int | None) -> bool:
    return room is not None and room < workers * SCARCE_BYTES


def grow_by(begun: int) -> int:
    """Bytes by which a region grows at a time; small steps where there is little room to waste."""
    return MOST_BYTES if begun == MOST_BYTES else LEAST_BYTES


def arguments(workers: int, room: int | None) -> list[str]:
    begun = begin_with(workers, room)
    settings = {"shm-default-byte-size": begun, "shm-growth-byte-size": grow_by(begun)}
    return [f"--backend-config=python,{name}={value}" for name, value in settings.items()]


def lack(workers: int, needed: int, room: int | None) -> str:
    """What to say where there is too little to begin with; nothing where there is enough."""
    if room is None or room >= needed:
        return ""
    hint = HINT.format(size=-(-2 * needed // MIB))  # rounded up; half of it is for growth
    # Tenths, what there is rounded down and what is needed up: otherwise both could look the same.
    spare = room // (MIB // 10) / 10
    return (
        f"{FOLDER} has {spare} MiB to spare, and the {workers} worker processes of these models need "
        f"{math.ceil(needed / MIB * 10) / 10} MiB to begin with; {hint}"
    )
