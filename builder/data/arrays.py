"""Samples of any network: arrays by the names of its inputs, from .npz files and from the user's own functions.

The convention. In an .npz file each array has the name of an input. Where the network batches, the first axis of all
arrays numbers the samples: N rows are N samples, and samples of other sizes stand in other files. Where it does not
batch, a file is one sample, of whole arrays. A function gives one mapping, from names to arrays or tensors, a sample,
always without a batch axis.
"""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from builder.data.sets import UserText
from builder.errors import ManifestError
from builder.util.reasons import reason
from builder.util.usercode import call, is_callable_name, load_callable

if TYPE_CHECKING:
    import numpy as np
    import torch

LARGEST = 2 * 2**30
"""Bytes of all samples, which are held in memory while an artifact is compared on them."""
UNNAMED = "arr_0"
"""What np.savez calls an array that it was given without a name."""
KINDS = {"O": "Python objects", "U": "text", "S": "text", "V": "records", "M": "dates", "m": "spans of time"}
"""NumPy's kinds that no tensor can have."""


class ArraySet(BaseModel):
    """Samples, and how many of them to use: `FILE`, a list of files, or `{data: FILE, samples: 256}`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    data: UserText | tuple[UserText, ...] = Field(
        description="An .npz file, whose arrays have the names of the inputs, or a list of them; or "
        "path/file.py:callable or package.module:callable, which gives mappings from the inputs' names to arrays.",
    )
    samples: StrictInt = Field(256, ge=1, le=100_000, description="How many at most, taken evenly.")

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.data,) if isinstance(self.data, str) else self.data


@dataclass(frozen=True)
class Sample:
    """One sample. `tensors` are by the inputs' names, on the CPU, without a batch axis."""

    name: str
    tensors: Mapping[str, torch.Tensor]


def require(wanted: ArraySet, base: Path) -> None:
    """Raise ManifestError for files that are surely none; no function of the user's is called."""
    if not wanted.sources:
        raise ManifestError("the list is empty; name an .npz file")
    for source in wanted.sources:
        if not _is_function(source, base):
            _require_file(_path(source, base))


def read(wanted: ArraySet, base: Path, is_batched: bool) -> list[Sample]:
    """The set's samples, all of the same names. Files are relative to `base`. Raises ManifestError."""
    require(wanted, base)
    found = [sample for source in wanted.sources for sample in _of_source(source, wanted.samples, base, is_batched)]
    _require_bytes(found)
    _require_same_names(found)
    return [found[number] for number in spread(len(found), wanted.samples)]


def spread(total: int, wanted: int) -> list[int]:
    """`wanted` of the numbers below `total`, or all, in order and evenly."""
    count = min(total, wanted)
    return [number * total // count for number in range(count)]


def _of_source(source: str, most: int, base: Path, is_batched: bool) -> list[Sample]:
    if _is_function(source, base):
        return _of_function(source, most, base)
    path = _path(source, base)
    tensors = {name: _tensor(array, f"{name!r} of {path}") for name, array in _arrays(path).items()}
    if not is_batched:
        return [Sample(path.name, tensors)]
    count = _rows(tensors, path)
    return [
        Sample(f"{path.name}[{row}]", {name: tensor[row] for name, tensor in tensors.items()})
        for row in spread(count, most)
    ]


def _is_function(source: str, base: Path) -> bool:
    return is_callable_name(source) and not _path(source, base).exists()


def _path(source: str, base: Path) -> Path:
    return base / Path(source).expanduser()


def _require_file(path: Path) -> None:
    if not path.exists():
        raise ManifestError(f"{path} does not exist; name an .npz file, relative to the manifest, or a callable")
    if path.is_dir():
        raise ManifestError(f"{path} is a folder; name its .npz files, as a list")
    try:
        with path.open("rb") as file:
            start = file.read(6)
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}") from None
    if start == b"\x93NUMPY":
        raise ManifestError(f"{path} is one array without a name; save np.savez('{path.stem}.npz', NAME=array)")
    if not zipfile.is_zipfile(path):
        raise ManifestError(f"{path} is no .npz file, or is cut short; np.savez(file, NAME=array) writes one")


def _arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """By name. What is compressed may be far larger than the file, and a header may promise anything: both are asked
    before memory is taken."""
    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:
            found = _sizes(archive, path)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in found}
    except ManifestError:
        raise
    except Exception as error:  # NumPy and zipfile raise whatever a damaged file makes them stumble over
        raise ManifestError(f"{path} cannot be read: {reason(error)}; write it again with np.savez") from None


def _sizes(archive: zipfile.ZipFile, path: Path) -> list[str]:
    """The arrays' names, once all of them are known to be arrays that fit into memory."""
    members = archive.infolist()
    if not members:
        raise ManifestError(f"{path} holds no arrays; save np.savez(file, NAME=array)")
    if (total := sum(member.file_size for member in members)) > LARGEST:
        raise ManifestError(_too_large(str(path), total))
    for member in members:
        _require_array(archive, member, path)
    return [member.filename.removesuffix(".npy") for member in members]


def _require_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    import numpy as np

    form: Any = np.lib.format
    name = member.filename.removesuffix(".npy")
    if name == member.filename:
        raise ManifestError(f"{path} holds {name!r}, which is no array; np.savez writes arrays alone")
    with archive.open(member) as file:
        version = form.read_magic(file)
        header = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
        shape, _, dtype = header(file)
        _require_kind(dtype, f"{name!r} of {path}")
        count = 1
        for size in shape:
            count *= size
        if file.tell() + count * dtype.itemsize != member.file_size:
            raise ManifestError(f"{name!r} of {path} is not as long as it says; write the file again with np.savez")


def _require_kind(dtype: np.dtype[Any], what: str) -> None:
    if dtype.hasobject:
        raise ManifestError(
            f"{what} holds Python objects, which only unpickling could read, and a pickle may run anything; save "
            "arrays of numbers, rows of other sizes in files of their own"
        )
    if dtype.kind in KINDS:
        raise ManifestError(
            f"{what} holds {KINDS[dtype.kind]} ({dtype}), and a tensor holds numbers; save numbers (bfloat16, which "
            "NumPy has not, as tensors of a callable of your own)"
        )


def _rows(tensors: Mapping[str, torch.Tensor], path: Path) -> int:
    """How many samples a file holds. Raises ManifestError."""
    for name, tensor in tensors.items():
        if tensor.ndim == 0:
            raise ManifestError(f"{name!r} of {path} is one number; its first axis numbers the samples: save [N, ...]")
    counts = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name!r} {count}" for name, count in counts.items())
        raise ManifestError(
            f"{path} holds arrays of different lengths ({told}), and their first axis numbers the samples; save as "
            "many rows of each, or set `max_batch_size: 0` if the network takes whole arrays"
        )
    count = next(iter(counts.values()))
    if count == 0:
        raise ManifestError(f"{path} holds no samples: its arrays have no rows")
    return count


def _of_function(source: str, most: int, base: Path) -> list[Sample]:
    function = load_callable(source, base, ManifestError)

    def collected() -> list[Sample]:
        samples, total = [], 0
        for number, item in _items(function(), most, source):
            samples.append(_sample(item, f"{source}[{number}]"))
            total += _bytes(samples[-1])
            if total > LARGEST:
                raise ManifestError(_too_large(source, total))
        return samples

    samples: list[Sample] = call(collected, source, ManifestError)
    if not samples:
        raise ManifestError(f"{source} gave no samples")
    return samples


def _items(given: Any, most: int, source: str) -> Iterable[tuple[int, Any]]:
    """Some of a torch dataset's items, or the first of anything that can be iterated."""
    if isinstance(given, Mapping) or not (hasattr(given, "__iter__") or hasattr(given, "__getitem__")):
        one = "one mapping" if isinstance(given, Mapping) else f"a {type(given).__name__}"
        raise ManifestError(f"{source} gave {one}; give several mappings, one a sample: a list, a generator, a dataset")
    if hasattr(given, "__len__") and hasattr(given, "__getitem__"):
        return ((number, given[number]) for number in spread(len(given), most))
    return enumerate(itertools.islice(given, most))


def _sample(item: Any, name: str) -> Sample:
    if not isinstance(item, Mapping) or not item or not all(isinstance(key, str) for key in item):
        kind = "an empty mapping" if isinstance(item, Mapping) and not item else f"a {type(item).__name__}"
        raise ManifestError(f"{name} is {kind}; give mappings from the inputs' names to arrays, such as {{'x': array}}")
    # Copied, since a generator may fill the same memory again for the next.
    return Sample(name, {key: _tensor(value, f"{key!r} of {name}").clone() for key, value in item.items()})


def _tensor(value: Any, what: str) -> torch.Tensor:
    """As a plain tensor on the CPU, of the same data type. Raises ManifestError."""
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_quantized or value.is_nested:
            raise ManifestError(f"{what} is a sparse, quantized or nested tensor; give a plain one, as to_dense() does")
        return value.detach().cpu()
    if not isinstance(value, np.ndarray | np.generic):
        raise ManifestError(
            f"{what} is a {type(value).__name__}, whose data type nothing tells; give an array, such as "
            "np.array([...], dtype='int64'), or a tensor"
        )
    array = np.asarray(value)
    _require_kind(array.dtype, what)
    try:  # in this machine's order of bytes, and with no steps backwards, which torch has not
        return torch.from_numpy(np.array(array.astype(array.dtype.newbyteorder("="), copy=False), order="C"))
    except TypeError:
        raise ManifestError(f"{what} is {array.dtype}, which PyTorch has not; save another data type") from None


def _require_bytes(samples: Iterable[Sample]) -> None:
    if (total := sum(map(_bytes, samples))) > LARGEST:
        raise ManifestError(_too_large("the samples", total))


def _bytes(sample: Sample) -> int:
    return sum(tensor.nbytes for tensor in sample.tensors.values())


def _too_large(what: str, total: int) -> str:
    return (
        f"{what}: {total / 2**30:.1f} GiB, and {LARGEST / 2**30:.0f} GiB are the most that are compared on; a few "
        "hundred samples tell as much"
    )


def _require_same_names(samples: list[Sample]) -> None:
    first = samples[0]
    for sample in samples:
        for name in _different(first, sample):
            has, lacks = (first, sample) if name in first.tensors else (sample, first)
            raise ManifestError(f"{has.name} has {name!r}, and {lacks.name} has not; give each sample all the inputs")


def _different(first: Sample, sample: Sample) -> Iterator[str]:
    return iter(sorted(set(first.tensors) ^ set(sample.tensors)))
