"""Values as arrays of a model's type, exactly: what would lose something is refused, and never done without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from client.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np

    from client.types import Array

DTYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
"""Triton's types by NumPy's names. BF16, which NumPy has not, travels as its bits, and BYTES as objects."""
BITS = "uint16"
"""What holds BF16."""


def as_sent(value: Any, datatype: str, where: str) -> Array:
    """A native array of the type, in C's order. Raises InvalidInput, which begins with `where`."""
    array = _array(value, where)
    if datatype == "BYTES":
        return _bytes(array, where)
    if datatype == "BF16":
        return _bf16(array, where)
    if datatype in DTYPES:
        return _numbers(array, datatype, where)
    raise InvalidInput(f"{where}: {datatype} is no type that this client can send")


def as_given(array: Array) -> Array:
    """An answer's array; BF16 as float32, which holds it exactly."""
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def to_bf16(values: Any) -> Array:
    """float32 [...] whose numbers are the nearest that BF16 has, ties to even: what inputs of that type take."""
    import numpy as np

    numbers = np.asarray(values, np.float32)
    bits = numbers.view(np.uint32) if numbers.ndim else numbers.reshape(1).view(np.uint32)
    upper = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    rounded = upper.view(np.float32).reshape(numbers.shape)
    return np.where(np.isfinite(numbers), rounded, numbers)  # an infinite one would become no number


def _array(value: Any, where: str) -> Array:
    """Lists as objects, so that nothing is guessed of them; arrays, and what can become one, with their own type."""
    import numpy as np

    try:
        if not isinstance(value, (list, tuple)):
            scalar = isinstance(value, (bool, int, float, str, bytes))
            return np.array(value, np.object_) if scalar else np.asarray(value)
        if value and all(isinstance(item, np.ndarray) for item in value):
            return np.stack(value)
        return np.array(value, np.object_)
    except Exception as error:  # of a foreign __array__, or of rows of different lengths
        raise InvalidInput(f"{where}: it is no array: {error}") from None


def _numbers(array: Array, datatype: str, where: str) -> Array:
    import numpy as np

    dtype = np.dtype(DTYPES[datatype])
    if array.dtype == np.object_:
        return _exactly(array, dtype, datatype, where)
    if not _holds(dtype, array.dtype):
        raise InvalidInput(
            f"{where}: it is {array.dtype.name}, and {datatype} is wanted, which does not hold all of that; "
            f"where nothing is lost, cast it: array.astype({dtype.name!r})"
        )
    return np.asarray(array, dtype=dtype, order="C")


def _holds(wanted: np.dtype[Any], given: np.dtype[Any]) -> bool:
    """Whether each number of one type is one of the other."""
    import numpy as np

    if given.kind not in "biuf":
        return False
    # NumPy takes int64 to float64 for safe, which holds 53 bits of it.
    is_wide = given.kind in "iu" and wanted.kind == "f" and given.itemsize >= wanted.itemsize
    return np.can_cast(given, wanted, "safe") and not is_wide


def _exactly(values: Array, dtype: np.dtype[Any], datatype: str, where: str) -> Array:
    """Python's numbers, each of which is one of the type's."""
    import numpy as np

    quick = _whole(values, dtype)
    if quick is not None:
        return quick
    made = np.empty(values.shape, dtype)
    for place, value in zip(np.ndindex(values.shape), values.flat, strict=True):
        if isinstance(value, (list, tuple, np.ndarray)):
            raise InvalidInput(f"{where}: its rows are of different lengths")
        number = _one(value, dtype)
        if number is None:
            raise InvalidInput(
                f"{where}: {value!r:.40} is not exactly a number of {datatype}; where it may be rounded, give "
                f"numpy.array(..., {dtype.name!r})"
            )
        made[place] = number
    return made


def _whole(values: Array, dtype: np.dtype[Any]) -> Array | None:
    """As `_exactly`, a hundred times faster, where all are Python's integers and numbers of the type."""
    import numpy as np

    kinds = set(map(type, values.flat))
    if kinds != {int} or dtype.kind not in "iu":
        return None
    limits = np.iinfo(dtype)
    return values.astype(dtype) if limits.min <= values.min() and values.max() <= limits.max else None


def _one(value: Any, dtype: np.dtype[Any]) -> Any:
    """The number as one of the type's; None where that has no such number."""
    import numpy as np

    try:
        with np.errstate(all="ignore"):
            # As Python's own number, which compares exactly with another.
            number = dtype.type(float(value)).item() if dtype.kind == "f" else int(value)
            if dtype.kind in "iu" and not np.iinfo(dtype).min <= number <= np.iinfo(dtype).max:
                return None
            if dtype.kind == "b" and number not in (0, 1):
                return None
            is_same = number == value or (number != number and value != value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if is_same and not isinstance(value, (str, bytes)) else None


def _bf16(array: Array, where: str) -> Array:
    import numpy as np

    if array.dtype.name == "bfloat16":
        return np.asarray(array, order="C").view(BITS)
    numbers = _numbers(array, "FP32", where)
    bits = np.atleast_1d(numbers).view(np.uint32)
    if (bits & np.uint32(0xFFFF)).any():
        raise InvalidInput(f"{where}: BF16 does not hold all of its numbers; round them: client.to_bf16(array)")
    return (bits >> np.uint32(16)).astype(BITS).reshape(numbers.shape)


def _bytes(array: Array, where: str) -> Array:
    import numpy as np

    if array.dtype.kind not in "OSU":
        raise InvalidInput(f"{where}: BYTES takes bytes or text, not {array.dtype.name}")
    made = np.empty(array.shape, np.object_)
    for place, value in zip(np.ndindex(array.shape), array.astype(np.object_).flat, strict=True):
        made[place] = _element(value, where)
    return made


def _element(value: Any, where: str) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise InvalidInput(f"{where}: {value!r:.40} has half a character, which UTF-8 cannot write") from None
    if isinstance(value, (list, tuple)):
        raise InvalidInput(f"{where}: its rows are of different lengths")
    raise InvalidInput(f"{where}: BYTES takes bytes or text, not {value!r:.40}")
