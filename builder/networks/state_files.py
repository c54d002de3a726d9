"""Files of weights as people have them: what is one, what only looks like one, and where in it the state dict lies."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.errors import WeightsError
from builder.networks import archives
from builder.util import first_bytes

WAYS_OUT = "name a local state-dict file with `weights: PATH`, or build with `--weights random`"
# The keys under which training loops nest the state dict, the likeliest first.
NESTING_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "params", "weights")
AVERAGED = re.compile("(?:^|_)(?:ema|swa)(?:_|$)|averag", re.IGNORECASE)
# What such loops keep beside it, which may hold tensors by name, too.
NOT_WEIGHTS = re.compile("optim|sched|scaler|loss|criterion|hyper|config|args|callback|loops|metric", re.IGNORECASE)
EXTRA_STATE = "_extra_state"
MOST_NESTED = 4
SHOWN_KEYS = 3

# What a file begins with that is none of weights, and what to do.
OTHERS: tuple[tuple[bytes, str], ...] = (
    *first_bytes.FOREIGN,
    (b"<?xml", "is XML, such as a server's refusal, not weights; download the file itself"),
    (b"\x89HDF", "is HDF5, as Keras writes it; convert it to a state dict of PyTorch"),
)
ZIP, PICKLE = b"PK\x03\x04", b"\x80"


@dataclass(frozen=True)
class Saved:
    """A state dict as a file has it."""

    tensors: dict[str, Any]
    """By key: tensors, and whatever modules keep as extra state."""
    versions: dict[str, dict[str, Any]] | None = None
    """By module: of the form of its keys, as torch notes it; None where the file's format has no room for that."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names of shared tensors that were left out, with those they are under."""
    notes: tuple[str, ...] = ()
    """What one should know of how it was read."""


def read(path: Path) -> Saved:
    """The state dict of a torch.save or safetensors file, mapped into memory where it can be. Raises WeightsError."""
    head = _head(path)
    for start, advice in OTHERS:
        if head.lstrip().lower().startswith(start.lower()):
            raise WeightsError(f"{path} {advice}")
    is_safetensors = path.suffix == ".safetensors" and not head.startswith((ZIP, PICKLE))
    if is_safetensors or _begins_as_safetensors(head, path):
        return _read_safetensors(path)
    saved = found_in(_load(path), path)
    _require_numbers(saved, path)
    return saved


def _require_numbers(saved: Saved, path: Path) -> None:
    """Raise WeightsError for tensors that hold none, or none of one shape."""
    import torch

    for key, value in saved.tensors.items():
        if isinstance(value, torch.Tensor) and (value.is_meta or value.is_nested):
            what = "was saved from the meta device, and holds no numbers" if value.is_meta else "is a nested tensor"
            raise WeightsError(f"{path}: {key} {what}; save the network's weights as they were trained")


def _head(path: Path) -> bytes:
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; name the file in it that holds the weights")
    if not path.is_file():
        raise WeightsError(f"the weights file {path} does not exist; correct `weights:`, or {WAYS_OUT}")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
    if not head:
        raise WeightsError(f"{path} is empty and cannot be read; save or download it again")
    return head


def _begins_as_safetensors(head: bytes, path: Path) -> bool:
    """The length of a JSON object in eight bytes, and the object."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size


def _read_safetensors(path: Path) -> Saved:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as a safetensors file: {_first_line(error)}") from None
    return Saved(tensors, aliases={name: kept for name, kept in told.items() if kept in tensors})


def _load(path: Path) -> Any:
    """What torch.save wrote, without running any code of it."""
    import pickle

    import torch

    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        _require_saved(path)
    # torch.load goes by the suffix, and knows no paths but UTF-8; what it gets without a name it cannot map.
    is_named = path.suffix != ".safetensors" and str(path).isprintable()
    try:
        with _harmless(), path.open("rb") as file:
            source = path if is_named else file
            return torch.load(source, map_location="cpu", weights_only=True, mmap=is_zip and is_named)
    except pickle.UnpicklingError:
        raise WeightsError(
            f"{path} holds more than tensors ({_more_than_tensors(path)}), which could run code when loaded, or is "
            "damaged; save the state dict alone: torch.save(model.state_dict(), PATH). If you trust the file, "
            "torch.load(PATH, weights_only=False) still reads it"
        ) from None
    except Exception as error:  # whatever damage makes of a file
        raise WeightsError(f"{path} cannot be read as a PyTorch file: {_first_line(error)}") from None


def _require_saved(path: Path) -> None:
    """Raise WeightsError for other archives, which torch.load would call damaged."""
    try:
        names = {name.rpartition("/")[2] for name in zipfile.ZipFile(path).namelist()}
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{path} cannot be read as a PyTorch file: {error}") from None
    archives.refuse_networks(path)
    if "data.pkl" not in names:
        raise WeightsError(f"{path} is a zip archive, but not one of torch.save; unpack it, or name another file")


def _harmless() -> AbstractContextManager[Any]:
    """Classes that hold values and do nothing, which training loops like to put into checkpoints."""
    import argparse
    import pathlib

    import numpy as np
    import torch

    scalar = np.core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = [type(np.dtype(code)) for code in "?bBhHiIlLqQefd"]
    classes: list[Any] = [argparse.Namespace, pathlib.PosixPath, pathlib.PurePosixPath, np.dtype, *kinds]
    names = [(scalar, f"numpy.{place}.multiarray.scalar") for place in ("core", "_core")]
    return torch.serialization.safe_globals([*classes, *names])


def _more_than_tensors(path: Path) -> str:
    """Names of the classes that a pickle asks for."""
    import torch

    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # it reads the newer form alone, and the file may be damaged
        names = []
    return ", ".join(sorted(names)[:SHOWN_KEYS]) or "a pickled module?"


def found_in(loaded: Any, path: Path) -> Saved:
    """The state dict that a loaded checkpoint is, or holds. Raises WeightsError if that is not told by its keys."""
    candidates = sorted(_candidates(loaded), key=lambda candidate: _rank(candidate[0]))
    if not candidates:
        raise WeightsError(
            f"{path} is not a state dict{_holds(loaded)}; save one: torch.save(model.state_dict(), PATH)"
        )
    keys, state = candidates[0]
    others = [other for other, _ in candidates[1:]]
    if others and _rank(others[0]) == _rank(keys):
        which = " and ".join(".".join(other) for other in (keys, *others)[:SHOWN_KEYS])
        raise WeightsError(
            f"{path} is not a state dict, but holds several, of which none is called the network's: {which}; save the "
            f"one that is meant: torch.save(torch.load(PATH)[{keys[0]!r}], NEW)"
        )
    versions = getattr(state, "_metadata", None)
    return Saved(dict(state), versions, notes=_chosen(keys, others))


def _candidates(value: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """State dicts in nested dicts, with the keys that lead to them."""
    if not isinstance(value, Mapping) or len(keys) > MOST_NESTED:
        return
    if _is_state(value):
        yield keys, value
        return
    for key, inner in value.items():
        if isinstance(key, str) and not NOT_WEIGHTS.search(key):
            yield from _candidates(inner, (*keys, key))


def _is_state(value: Mapping[Any, Any]) -> bool:
    """Tensors by name, beside which modules may keep state of any kind; figures alone are none."""
    import torch

    kinds = [isinstance(item, torch.Tensor) or str(key).endswith(EXTRA_STATE) for key, item in value.items()]
    named = all(isinstance(key, str) for key in value)
    return named and all(kinds) and any(isinstance(item, torch.Tensor) and item.ndim for item in value.values())


def _rank(keys: tuple[str, ...]) -> tuple[bool, int]:
    """The network's own before its average, and before what is called otherwise."""
    known = [NESTING_KEYS.index(key) for key in keys if key in NESTING_KEYS]
    averaged = any(AVERAGED.search(key) for key in keys)
    return averaged, max(known, default=-1 if not keys else len(NESTING_KEYS))


def _chosen(keys: tuple[str, ...], others: list[tuple[str, ...]]) -> tuple[str, ...]:
    """What to say where there was a choice."""
    if not others:
        return ()
    names = ", ".join(repr(".".join(other)) for other in others[:SHOWN_KEYS])
    return (f"taken from {'.'.join(keys)!r} of the file, which also holds {names}",)


def _holds(loaded: Any) -> str:
    if isinstance(loaded, Mapping):
        return f" and holds none: its keys are {shortened([str(key) for key in loaded])}"
    return f", but a {type(loaded).__name__}"


def shortened(names: list[str]) -> str:
    """The first few of a list."""
    more = f" and {len(names) - SHOWN_KEYS} more" if len(names) > SHOWN_KEYS else ""
    return ", ".join(names[:SHOWN_KEYS]) + more


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
