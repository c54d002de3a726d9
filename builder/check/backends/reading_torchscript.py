"""TorchScript archives, by their code: what forward() takes and gives. Nothing in them is run, nor unpickled."""

from __future__ import annotations

import ast
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

from builder.check.backends.network import DamagedError

CLASS = re.compile(rb"c(__torch__[^\n]*)\n([^\n]+)\n")
MOST_BYTES = 2 * 1024 * 1024
"""Of a part that is read; a file with more is not judged."""


@dataclass(frozen=True)
class Argument:
    name: str
    kind: str
    """As the code has it, such as Tensor."""


@dataclass(frozen=True)
class Forward:
    arguments: tuple[Argument, ...]
    results: int | None
    """How many tensors it gives; None: not told."""

    @property
    def takes_dictionary(self) -> bool:
        return len(self.arguments) == 1 and self.arguments[0].kind.startswith("Dict[")


def forward(path: Path) -> Forward | None:
    """None for what tells nothing. Raises DamagedError, OSError."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DamagedError(f"it is no archive of PyTorch: {error}") from None
    except (ValueError, NotImplementedError, EOFError):
        return None
    with archive:
        inner = {name.partition("/")[2]: name for name in archive.namelist()}
        _require_torchscript(inner)
        try:
            module, name = _top(_part(archive, inner["data.pkl"]))
            code = _part(archive, inner[f"code/{module.replace('.', '/')}.py"])
        except Exception:  # whatever damage makes of an archive, which PyTorch may read all the same
            return None
    return _forward(code, name)


def _require_torchscript(inner: dict[str, str]) -> None:
    if not any(name.startswith("code/") for name in inner) and "constants.pkl" not in inner:
        what = "what torch.save wrote" if "data.pkl" in inner else "a zip archive"
        raise DamagedError(f"it is {what}, not TorchScript")


def _part(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > MOST_BYTES:
        raise ValueError(name)
    return archive.read(name)


def _top(pickled: bytes) -> tuple[str, str]:
    """(module, class) of the whole network: the first that its pickle names."""
    found = CLASS.search(pickled)
    if not found:
        raise ValueError("it names no class")
    return found[1].decode(), found[2].decode()


def _forward(code: bytes, name: str) -> Forward | None:
    try:
        with warnings.catch_warnings(action="ignore"):  # what it remarks on is PyTorch's way of writing
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    methods = (node for found in classes for node in found.body if isinstance(node, ast.FunctionDef))
    method = next((node for node in methods if node.name == "forward"), None)
    return _told(method) if method else None


def _told(method: ast.FunctionDef) -> Forward:
    listed = [*method.args.args[1:], *method.args.kwonlyargs]
    kinds = (ast.unparse(argument.annotation) if argument.annotation else "Tensor" for argument in listed)
    arguments = tuple(Argument(argument.arg, kind) for argument, kind in zip(listed, kinds, strict=True))
    return Forward(arguments, _results(method.returns))


def _results(returns: ast.expr | None) -> int | None:
    if returns is None or ast.unparse(returns) == "Tensor":
        return 1
    is_tuple = isinstance(returns, ast.Subscript) and ast.unparse(returns.value) == "Tuple"
    if not is_tuple or not isinstance(returns, ast.Subscript):
        return None
    return len(returns.slice.elts) if isinstance(returns.slice, ast.Tuple) else 1
