"""Words such as NAME=FILE.npy -> values by name."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from client import files, signals
from client.errors import Cancelled, InvalidInput, UnreadableFile

if TYPE_CHECKING:
    from client.types import Array, ModelInfo, TensorInfo

STDIN = "-"
WAYS = (
    "write NAME=FILE.npy, NAME=FILE.txt (a text a line), NAME=@FILE (its bytes), FILE.npz (all by name), or - as FILE"
)
ZIP = b"PK"


@dataclass(frozen=True)
class Texts:
    """Elements that are given the form that the model's input has."""

    elements: tuple[bytes, ...]
    where: str


def read(words: Sequence[str]) -> dict[str, Any]:
    """Arrays and `Texts` by input. Raises UnreadableFile, InvalidInput."""
    found: dict[str, Any] = {}
    if sum(STDIN in (word, word.partition("=")[2]) for word in words) > 1:
        raise InvalidInput("the standard input can be read once: give - for one input, or an .npz with all")
    for word in words:
        for name, value in _given(word):
            if name in found:
                raise InvalidInput(f"the input {name} is given twice")
            found[name] = value
    return found


def shaped(model: ModelInfo, values: dict[str, Any]) -> dict[str, Any]:
    """With the texts as arrays. Raises InvalidInput."""
    wanted = {one.name: one for one in model.inputs}
    return {
        name: _formed(model, wanted.get(name), value) if isinstance(value, Texts) else value
        for name, value in values.items()
    }


def _given(word: str) -> Iterator[tuple[str, Any]]:
    name, equals, path = word.partition("=")
    if not equals or os.path.lexists(word):
        yield from _npz(word)
    elif not name or not path:
        raise InvalidInput(f"--input {word}: {WAYS}")
    elif path.startswith("@"):
        yield name, Texts((files.read(path[1:]),), path[1:])
    elif path.lower().endswith(".txt"):
        yield name, Texts(_lines(path), path)
    else:
        yield name, _npy(path)


def _lines(path: str) -> tuple[bytes, ...]:
    """Without their ends, and without a byte order mark."""
    try:
        text = files.read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"{path}: it is no UTF-8 from byte {error.start} on; give other bytes as @FILE") from None
    lines = text.replace("\r\n", "\n").split("\n")
    return tuple(line.encode() for line in (lines[:-1] if lines[-1] == "" else lines))


def _npy(path: str) -> Array:
    loaded = _loaded(path)
    if isinstance(loaded, dict):
        raise InvalidInput(f"{path} holds arrays by name; give it without NAME=")
    array: Array = loaded
    return array


def _npz(path: str) -> Iterator[tuple[str, Array]]:
    if path != STDIN and not path.lower().endswith(".npz") and not os.path.lexists(path):
        raise InvalidInput(f"--input {path}: {WAYS}")
    loaded = _loaded(path)
    if not isinstance(loaded, dict):
        raise InvalidInput(f"{path} holds one array without a name; give it as NAME={path}")
    yield from loaded.items()


def _loaded(path: str) -> Any:
    """An array, or a dict of them. Nothing in the file is run: pickled objects are refused."""
    import numpy as np

    data = _standard_input() if path == STDIN else files.read(path)
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        if not data.startswith(ZIP):
            return loaded
        arrays = {name: loaded[name] for name in loaded.files}
    except Exception as error:  # whatever NumPy meets in a damaged file
        raise UnreadableFile(f"{path}: {_reason(error)}") from None
    others = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if others:
        raise UnreadableFile(f"{path}: {others[0]} in it is no array")
    return arrays


def _reason(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    if "pickle" in text:
        return "it is no .npy or .npz, or holds Python objects, which are not loaded; NAME=@FILE gives a file's bytes"
    return f"it is damaged: {text or type(error).__name__}"


def _standard_input() -> bytes:
    """Raises Cancelled when the end is asked for meanwhile."""
    descriptor, stop = files.standard_input(), signals.of_process()
    chunks: list[bytes] = []
    while stop.readable(descriptor):
        if not (chunk := os.read(descriptor, 1 << 16)):
            return b"".join(chunks)
        chunks.append(chunk)
    raise Cancelled("the standard input was not read to its end")


def _formed(model: ModelInfo, wanted: TensorInfo | None, texts: Texts) -> Any:
    """One element a row; rows have the sides that the model tells, and one where it takes any."""
    import numpy as np

    if wanted is None:
        return texts.elements  # the refusal of its name is to come
    if wanted.datatype != "BYTES":
        raise InvalidInput(f"{texts.where}: {model.name}'s input {wanted.name} is {wanted.datatype}; give an .npy file")
    sides = [1 if side == -1 else side for side in wanted.shape[1:]]
    array = np.array([*texts.elements, None], np.object_)[:-1]  # so that one of no elements is of objects, too
    try:
        return array.reshape(-1, *sides) if len(array) else array.reshape(0, *sides)
    except ValueError:
        raise InvalidInput(
            f"{texts.where}: {len(array)} elements do not fill rows of {wanted.name}, which is {list(wanted.shape)}"
        ) from None
