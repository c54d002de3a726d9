"""TorchScript archives, by their code: what forward() takes and gives. Nothing in them is run, nor unpickled."""

from __future__ import annotations

import ast
import io
import pickle
import re
import warnings
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from builder.errors import NetworkError
from builder.exporters.interfaces import files
from builder.triton.interface import Interface, ToldTensor

KIND = "TorchScript"
PICKLE = b"\x80"
TENSORS = re.compile(r"(Optional\[)?Tensor\]?")
STORAGES = {"FloatStorage": "fp32", "DoubleStorage": "fp32", "HalfStorage": "fp16", "BFloat16Storage": "bf16"}


def interface(path: Path) -> Interface:
    """Raises NetworkError."""
    head = files.head_of(path)
    if head.startswith(PICKLE):
        raise NetworkError(f"{path} is a pickle, not TorchScript; {_CURE}")
    names = files.archive_names(path)
    if not any(name.startswith("code/") for name in names):
        raise NetworkError(_other(path, names))
    forward, quantised = _read(path)
    inputs = _arguments(forward, path)
    _require_served(ast.unparse(forward.returns) if forward.returns else "Tensor", path)
    precision = "int8" if quantised else _precision(path)
    return Interface(inputs, None, precision, _facts(path))


_CURE = (
    "a state dict is named by `weights:`, beside a `network:` that it fits; of a whole network save TorchScript: "
    "torch.jit.trace(network.eval(), example).save('model.pt')"
)


def _other(path: Path, names: tuple[str, ...]) -> str:
    if any(name.startswith(("models/", "data/aotinductor/", "serialized_exported_program")) for name in names):
        return f"{path} is an exported program or package; name it {path.stem}.pt2"
    if "data.pkl" in names:
        return f"{path} is what torch.save wrote, not TorchScript; {_CURE}"
    return f"{path} is a zip archive, but not TorchScript; {_CURE}"


def _read(path: Path) -> tuple[ast.FunctionDef, bool]:
    """The whole network's forward(), and whether any code calls quantised operators."""
    try:
        with zipfile.ZipFile(path) as archive:
            inner = {name.partition("/")[2]: name for name in archive.namelist()}
            module, name = _top(archive.read(inner["data.pkl"]))
            sources = {key: archive.read(inner[key]).decode() for key in inner if key.endswith(".py")}
        with warnings.catch_warnings(action="ignore"):  # what it remarks on is PyTorch's way of writing
            tree = ast.parse(sources[f"code/{module.replace('.', '/')}.py"])
    except Exception as error:  # whatever damage makes of an archive
        raise files.damaged(path, KIND, f"{type(error).__name__}: {error}") from None
    quantised = any("ops.quantized." in text or ".quantized." in text for text in sources.values())
    return _forward(tree, name, path), quantised


def _top(pickled: bytes) -> tuple[str, str]:
    """(module, class) of the whole network: the first that its pickle names."""
    found = re.search(rb"c(__torch__[^\n]*)\n([^\n]+)\n", pickled)
    if not found:
        raise ValueError("it names no class")
    return found[1].decode(), found[2].decode()


def _forward(tree: ast.Module, name: str, path: Path) -> ast.FunctionDef:
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    for node in (inner for found in classes for inner in found.body):
        if isinstance(node, ast.FunctionDef) and node.name == "forward":
            return node
    raise NetworkError(f"{path} has no forward(); save a network that has: torch.jit.trace(network, example)")


def _arguments(forward: ast.FunctionDef, path: Path) -> tuple[ToldTensor, ...]:
    listed = [*forward.args.args[1:], *forward.args.kwonlyargs]
    for argument in listed:
        kind = ast.unparse(argument.annotation) if argument.annotation else "Tensor"
        if not TENSORS.fullmatch(kind):
            raise NetworkError(
                f"{path}: forward() takes {argument.arg}: {kind}, and a server gives tensors alone; save one that does"
            )
    return tuple(ToldTensor(argument.arg) for argument in listed)


def _require_served(kind: str, path: Path) -> None:
    """Raise NetworkError for results that Triton's backend cannot take apart."""
    if kind.startswith(("Dict", "List", "int", "float", "bool", "str", "None")):
        raise NetworkError(
            f"{path}: forward() gives {kind}, and a server takes a tensor or a tuple of tensors; save one that gives "
            "those, or build it as `network: file.py:callable` that returns torch.jit.load(...)"
        )


class _Reader(pickle.Unpickler):
    """Counts what tensors are made of. No class of the file is found: a stand-in that does nothing is in its place."""

    def __init__(self, data: bytes, room: Counter[str]) -> None:
        super().__init__(io.BytesIO(data))
        self.room = room

    def find_class(self, _module: str, name: str) -> Any:
        return name if name in STORAGES else _Inert

    def persistent_load(self, pid: Any) -> Any:
        _, storage, _, _, count = pid
        if isinstance(storage, str) and isinstance(count, int):
            self.room[STORAGES[storage]] += count
        return _Inert()


class _Inert(dict[Any, Any]):
    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Any:
        return _Inert()


def _precision(path: Path) -> str | None:
    """By the storages of its weights; None where the pickles are of a form unknown here."""
    room: Counter[str] = Counter()
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(("/data.pkl", "/constants.pkl")):
                    _Reader(archive.read(name), room).load()
    except Exception:  # it only tells what the weights are
        return None
    return room.most_common(1)[0][0] if room else None


def _facts(path: Path) -> dict[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            versions = [archive.read(name) for name in archive.namelist() if name.partition("/")[2] == "version"]
    except Exception as error:  # whatever damage makes of an archive
        raise files.damaged(path, KIND, error) from None
    return {"torchscript_version": versions[0].decode(errors="replace").strip()} if versions else {}
