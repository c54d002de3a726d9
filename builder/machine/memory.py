"""Memory, given back to the system."""

from __future__ import annotations

import ctypes
import gc


def return_memory() -> None:
    """Freed weights back to the system, where the C library is one that can."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return
