"""A snapshot: a folder with config.json, weights, and what stands before the network, as `save_pretrained` writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import BuilderError, NetworkError, WeightsError
from builder.networks.huggingface.names import Place
from builder.util import texts

CONFIG = "config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model.pt", "model.pt", "model.pth")
OF_OTHERS = ("tf_model.h5", "flax_model.msgpack", "model.onnx", "model.gguf")
READ = ("*.json", "*.txt", "*.model", "*.py", "*.safetensors")
"""Of the folder itself: what a build may read. Other frameworks' files beside them count for nothing."""
MODULES = "modules.json"
"""Of sentence-transformers: its parts, each in a folder of its own or in the snapshot's."""


@dataclass(frozen=True)
class Snapshot:
    name: str
    """As the manifest has it."""
    folder: Path
    commit: str = ""
    """Of the hub's repository; empty for a folder."""

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON object of the snapshot; None where the file is not there. Raises NetworkError."""
        return read_object(self.folder / name)

    @property
    def config(self) -> dict[str, Any]:
        """Raises NetworkError."""
        found = self.read(CONFIG)
        if found is None:
            raise NetworkError(
                f"{self.folder} has no {CONFIG}, so that it is no snapshot of a transformers network; name the folder "
                "that `model.save_pretrained(DIR)` wrote"
            )
        return found

    def weights(self) -> list[Path]:
        """The files of its weights. Raises WeightsError where they are no safetensors, or not all there."""
        if (whole := self.folder / WEIGHTS).is_file():
            return [whole]
        index = self.read(INDEX)
        if index is None:
            raise WeightsError(_without_weights(self.folder))
        mapped = index.get("weight_map")
        names = set(mapped.values()) if isinstance(mapped, Mapping) else set()
        shards = [self.folder / str(name) for name in sorted(map(str, names))]
        missing = [path.name for path in shards if not path.is_file()]
        if missing or not shards:
            lacks = f"lacks {', '.join(missing[:3])}" if missing else "names no files"
            raise WeightsError(f"{self.folder}: {INDEX} {lacks}; copy or download the whole snapshot once more")
        return shards


def of_folder(place: Place) -> Snapshot:
    """Raises NetworkError where the folder is not there."""
    folder = place.folder
    assert folder is not None
    if not folder.is_dir():
        what = "is a file; name the folder that it is in" if folder.exists() else "does not exist"
        raise NetworkError(
            f"{place.name}: the folder {folder} {what}; it is relative to the manifest, and "
            "`model.save_pretrained(DIR)` writes one"
        )
    return Snapshot(place.name, folder.resolve())


def files(folder: Path) -> Iterator[Path]:
    """What a build may read of a snapshot: its own files, and those of sentence-transformers' parts."""
    for inner in (folder, *_parts(folder)):
        for pattern in READ:
            yield from sorted(path for path in inner.glob(pattern) if path.is_file())


def _parts(folder: Path) -> list[Path]:
    try:
        listed = json.loads(texts.read(folder / MODULES))
        names = [str(part["path"]) for part in listed]
    except (OSError, texts.NotUtf8, ValueError, TypeError, KeyError):  # whoever needs it says so
        return []
    return [folder / name for name in names if name and (folder / name).is_dir()]


def read_object(path: Path) -> dict[str, Any] | None:
    found = read_json(path)
    if found is not None and not isinstance(found, dict):
        raise NetworkError(f"{path} holds a {type(found).__name__}, not an object; write the snapshot once more")
    return found


def read_json(path: Path, error: type[BuilderError] = NetworkError) -> Any:
    """What the file holds; None where it is not there. Raises `error`."""
    try:
        return json.loads(texts.read(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, texts.NotUtf8, ValueError, RecursionError) as cause:
        raise error(f"{path} cannot be read: {cause}; write or download the snapshot once more") from None


def _without_weights(folder: Path) -> str:
    if pickled := next((name for name in PICKLED if (folder / name).is_file()), None):
        return (
            f"{folder} has its weights as {pickled} alone, a pickle, which may run code when it is loaded; only "
            f"safetensors are. Write them anew where you trust them, by transformers' own "
            f"`from_pretrained(DIR).save_pretrained(NEW)`, or name the file, which is then read without running any "
            f"code: `weights: {folder / pickled}`"
        )
    other = next((name for name in OF_OTHERS if (folder / name).exists()), None)
    beside = f" ({other} is another framework's)" if other else ""
    return (
        f"{folder} has no {WEIGHTS}{beside}; copy or download the whole snapshot, name a file by `weights: PATH`, or "
        "build with `--weights random`"
    )
