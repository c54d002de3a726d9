"""State dicts into modules: by torch's own strict loading, under the names that wrappers of the network left.

What torch takes is taken: modules bring old forms of their keys up to date while they load. Only where it refuses them,
keys are read otherwise: without the marks of wrappers, and without, or with, a prefix that all of them share.
"""

from __future__ import annotations

import copy
import itertools
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from builder.errors import WeightsError
from builder.networks import making, misfits, readings
from builder.networks.misfits import Difference
from builder.networks.readings import COUNTERS, MOST_READINGS, TRACKED, Reading, Rename, unwrapped
from builder.networks.state_files import Saved, shortened

if TYPE_CHECKING:
    import torch
    from torch import nn


def fit(module: nn.Module, saved: Saved, origin: str, unused: Sequence[str] = ()) -> tuple[str, ...]:
    """Give the module the file's own tensors, and say what was done for it. Raises WeightsError, which names `origin`.

    `unused`: beginnings of keys that the file may have and this network has not.
    """
    making.frozen(module)  # integers could not be assigned, to be told below
    own = Own(module, tuple(unused))
    found, closest = _fitting(own, saved)
    if not found:
        raise WeightsError(misfits.refusal(origin, *closest, own.shapes))
    if len(found) > 1:
        raise WeightsError(misfits.several(origin, found))
    (reading,) = found
    own.attempt(saved, reading)  # once more: a later reading may have been tried
    notes = (reading.meaning, own.left_out(saved, reading), own.settle(origin))
    return tuple(note for note in notes if note)


def _fitting(own: Own, saved: Saved) -> tuple[list[Reading], tuple[Reading, Difference]]:
    """The readings that fit, of which prefixes count alike; and that which is nearest to fit."""
    tried: list[tuple[Reading, Difference]] = []
    found: list[Reading] = []
    for reading in own.readings(saved):
        if found and not (reading.prefix and found[0].prefix):
            break
        tried.append((reading, own.attempt(saved, reading)))
        found += [reading] * (not tried[-1][1])
    near = [item for item in tried[1:] if 2 * len(item[1].missing) < len(own.shapes)]
    return found, min([tried[0], *near], key=lambda item: item[1].size)


class Own:
    """What the module itself has, which loading into it changes."""

    def __init__(self, module: nn.Module, unused: tuple[str, ...]) -> None:
        self.module, self.unused = module, unused
        state = module.state_dict()
        self.versions: dict[str, dict[str, Any]] = getattr(state, "_metadata", {})
        self.shapes = {key: _shape(value) for key, value in state.items()}
        self.types: dict[str, torch.dtype] = {name: getattr(part, key).dtype for name, part, key in _slots(module)}
        bare = {unwrapped(key): key for key in state}
        self.names = bare if len(bare) == len(state) else {key: key for key in state}
        """The keys by what they are without wrappers' marks."""
        self.shared = _shared(module)

    def readings(self, saved: Saved) -> Iterator[Reading]:
        """The likeliest first."""
        yield Reading(lambda key: key)
        if any(unwrapped(key) != key for key in (*saved.tensors, *self.shapes)):
            yield Reading(self._named, readings.without_marks(saved.tensors))
        for prefix in readings.prefixes(saved.tensors, self.names):
            yield Reading(self._without(prefix), f"the keys are those behind {prefix!r}", prefix)
        first = next((unwrapped(key) for key in saved.tensors if key.rpartition(".")[2] not in COUNTERS), "")
        behind = (name.removesuffix(first) for name in self.names if first and name.endswith(f".{first}"))
        for prefix in itertools.islice(behind, MOST_READINGS):
            yield Reading(self._behind(prefix), f"the network has the file's keys behind {prefix!r}")

    def attempt(self, saved: Saved, reading: Reading) -> Difference:
        """Load, as torch does it strictly; what does not fit."""
        tensors = self._read(saved, reading)
        versions = [readings.renamed(saved.versions, reading)] if saved.versions is not None else [None, self.versions]
        differences = []
        for noted in versions:
            differences.append(self._loaded(tensors, noted))
            if not differences[-1]:
                break
        return min(differences, key=lambda difference: difference.size)

    def left_out(self, saved: Saved, reading: Reading) -> str:
        """What the file has beside the network's keys."""
        beside = [key for key in saved.tensors if self._is_left_out(key, reading)]
        return f"left out: {shortened(beside)}" if beside else ""

    def settle(self, origin: str) -> str:
        """Bring what was loaded to the network's types; what was done. Raises WeightsError for what is no weight."""
        cast: dict[str, str] = {}
        strange: list[str] = []
        for name, part, key in _slots(self.module):
            value, wanted = getattr(part, key), self.types.get(name)
            if wanted is None or value.is_meta:
                continue
            if not _is_castable(value, wanted):
                strange.append(f"{name} is {_short(value.dtype)} in the file and {_short(wanted)} in the network")
            elif value.dtype != wanted:
                _replace(part, key, value.to(wanted))
                cast[_short(value.dtype)] = _short(wanted)
        if strange:
            raise WeightsError(misfits.of_other_types(origin, strange))
        require_numbers(self.module, origin)
        return "; ".join(f"{given} became {wanted}" for given, wanted in cast.items() if "float" in given)

    def _named(self, key: str) -> str:
        bare = unwrapped(key)
        return self.names.get(bare, bare)

    def _without(self, prefix: str) -> Rename:
        def rename(key: str) -> str | None:
            bare = unwrapped(key)
            return self._named(bare.removeprefix(prefix)) if bare.startswith(prefix) else None

        return rename

    def _behind(self, prefix: str) -> Rename:
        return lambda key: self.names.get(prefix + unwrapped(key), prefix + unwrapped(key))

    def _is_left_out(self, key: str, reading: Reading) -> bool:
        name = reading.rename(key)
        return name is None or (name not in self.shapes and name.rpartition(".")[2] in COUNTERS)

    def _read(self, saved: Saved, reading: Reading) -> dict[str, Any]:
        """The tensors by the network's names, those that share one under each."""
        import torch

        tensors: dict[str, Any] = {}
        for key, value in saved.tensors.items():
            name = reading.rename(key)
            if name is None or self._is_left_out(key, reading):
                continue
            if name in self.shapes or not (self.unused and name.startswith(self.unused)):
                tensors[name] = value.detach().to_dense() if isinstance(value, torch.Tensor) else value
        self._share(tensors, {reading.rename(name): reading.rename(key) for name, key in saved.aliases.items()})
        return tensors

    def _share(self, tensors: dict[str, Any], kept: Mapping[str | None, str | None]) -> None:
        """A tensor of several names is saved under one by some."""
        for name in self.shapes:
            for other in (kept.get(name), *self.shared.get(name, ())):
                if name not in tensors and other in tensors:
                    tensors[name] = tensors[other]

    def _loaded(self, tensors: Mapping[str, Any], versions: Mapping[str, Any] | None) -> Difference:
        import torch

        state: Any = OrderedDict(tensors)
        if versions is not None:
            for key in self.shapes:
                if key.endswith(TRACKED):
                    state.setdefault(key, torch.tensor(0))
            state._metadata = copy.deepcopy(versions)  # torch writes into it
        try:
            result = self.module.load_state_dict(state, strict=False, assign=True)
        except Exception as error:  # the module's hooks may raise anything
            return self._compared(state, error)
        return Difference(list(result.missing_keys), list(result.unexpected_keys))

    def _compared(self, state: Mapping[str, Any], error: Exception) -> Difference:
        """What differs, found by keys and shapes: torch's own message is a line a tensor."""
        wrong = [
            f"{key} is {list(state[key].shape)} in the file and {list(shape)} in the network"
            for key, shape in self.shapes.items()
            if shape is not None and key in state and getattr(state[key], "shape", shape) != shape
        ]
        missing = [key for key in self.shapes if key not in state]
        unknown = [key for key in state if key not in self.shapes]
        failure = "" if wrong else misfits.failure(error)
        return Difference(missing, unknown, wrong, failure)


def _shape(value: Any) -> torch.Size | None:
    """Shape of an item of a state dict; None for extra state, and for a lazy parameter, which takes any."""
    import torch

    is_sized = isinstance(value, torch.Tensor) and not torch.nn.parameter.is_lazy(value)
    return value.shape if is_sized else None


def _shared(module: nn.Module) -> dict[str, list[str]]:
    """The other names of each tensor that has several."""
    groups: dict[int, list[str]] = {}
    for name, part, key in _slots(module):
        groups.setdefault(id(getattr(part, key)), []).append(name)
    return {name: [o for o in group if o != name] for group in groups.values() if len(group) > 1 for name in group}


def _slots(module: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Every name of a parameter or buffer, the module that has it, and the attribute."""
    for prefix, part in module.named_modules(remove_duplicate=False):
        for key in (*part._parameters, *part._buffers):
            if getattr(part, key) is not None:
                yield f"{prefix}.{key}".removeprefix("."), part, key


def _replace(part: nn.Module, key: str, value: torch.Tensor) -> None:
    from torch import nn

    if key in part._parameters:
        part._parameters[key] = nn.Parameter(value, requires_grad=False)
    else:
        part._buffers[key] = value


def _is_castable(value: torch.Tensor, wanted: torch.dtype) -> bool:
    """Between floats; between whole numbers; and whole numbers that somebody cast to floats with the rest."""
    if value.is_quantized or value.is_complex() != wanted.is_complex:
        return False
    if value.is_floating_point() and not wanted.is_floating_point:
        return bool((value == value.round()).all())
    return value.dtype == wanted or value.is_floating_point() == wanted.is_floating_point


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def require_numbers(module: nn.Module, origin: str) -> None:
    """Raise WeightsError for weights that are no numbers; buffers may well be infinite, as masks are."""
    import torch

    for name, part, key in _slots(module):
        value = getattr(part, key)
        if value.is_meta or not value.is_floating_point() or value.dtype.itemsize < 2 or not value.numel():
            continue  # there are no minima of 8 bits
        least, most = torch.aminmax(value)  # hands NaN on, and takes no memory
        if least.isnan() or (key in part._parameters and (least.isinf() or most.isinf())):
            what = "NaN" if least.isnan() else "infinite numbers"
            raise WeightsError(
                f"{origin} has {what} in {name}: the training that wrote it had diverged, or a cast to float16 was too "
                "narrow; name the weights of before that"
            )
