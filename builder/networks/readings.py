"""Ways to understand the keys of a state dict: as they are, without the marks of wrappers, behind a prefix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# What DataParallel, torch.compile, FSDP and activation checkpointing put into the names of what they wrap.
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# What profilers (thop) and AveragedModel count in buffers of their own.
COUNTERS = frozenset({"total_ops", "total_params", "n_averaged"})
TRACKED = "num_batches_tracked"
"""Last part of a key: a counter of batch normalisation, without effect at inference, and missing in old files."""
MOST_READINGS = 20
Rename = Callable[[str], str | None]
"""The network's name of a key of the file; None: not the network's."""


@dataclass(frozen=True)
class Reading:
    """One way to understand the keys of a file."""

    rename: Rename
    meaning: str = ""
    """What one should know of it."""
    prefix: str = ""


def unwrapped(key: str) -> str:
    """A key without the marks of wrappers."""
    return ".".join(part for part in key.split(".") if part not in WRAPPERS)


def without_marks(tensors: Mapping[str, Any]) -> str:
    marks = sorted({part for key in tensors for part in key.split(".")} & WRAPPERS)
    return f"the keys are read without {', '.join(f'{mark}.' for mark in marks)}" if marks else ""


def prefixes(tensors: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """What may stand before all the network's keys: before one that is surely there, or all of the file's."""
    keys = [unwrapped(key) for key in tensors if key.rpartition(".")[2] not in COUNTERS]
    sure = [name for name in names if not name.endswith(TRACKED)]
    ends = [f".{name}" for name in (sure[:1] + sure[-1:])]
    found = {key[: 1 - len(end)] for end in ends for key in keys if key.endswith(end)}
    roots = {f"{key.partition('.')[0]}." for key in keys if "." in key}
    alone = roots if len(roots) == 1 and all("." in key for key in keys) else set()
    return sorted(found | alone, key=lambda prefix: (prefix.count("."), prefix))[:MOST_READINGS]


def renamed(versions: Mapping[str, Any] | None, reading: Reading) -> dict[str, Any]:
    """torch's notes by the modules' names, which are the beginnings of keys."""
    end = ".x"
    named = {reading.rename(f"{module}{end}".lstrip(".")): noted for module, noted in (versions or {}).items()}
    return {name.removesuffix("x").removesuffix("."): noted for name, noted in named.items() if name is not None}
