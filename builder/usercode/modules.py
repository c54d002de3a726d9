"""The user's files as modules, with what lies beside them, each folder's own.

`import blocks` and `from .blocks import block` in nets/mine.py mean nets/blocks.py, or one in a folder above it up to
the manifest's, as they would for `python nets/mine.py` and `python -m nets.mine`. Two folders with a blocks.py each
keep theirs apart: their modules are named by their place, below a package that stands for the manifest's folder, and
what a file imports is looked for from its own folder, not in `sys.path`, which all share.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

PREFIX = "build_repo_user_"
_ROOTS: dict[str, Path] = {}
"""By the name of the package that stands for them."""


def import_file(path: Path, base: Path) -> ModuleType:
    """The file's module, made anew: a file may have changed since it was read last."""
    path, root = absolute(path), root_of(path, base)
    _forget(root)
    name = f"{_package(path.parent, root)}.{_part(path.stem)}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, str(path)))
    assert spec  # always so for a .py file
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look modules up here
    spec.loader.exec_module(module)
    return module


def import_module(name: str, base: Path) -> ModuleType:
    """An installed module, or else one below `base`, which is made anew."""
    top, root = name.partition(".")[0], absolute(base)
    if _is_installed(top) or not (_holds(root, top) or _is_folder(root, top)):
        return importlib.import_module(name)
    _forget(root)
    return importlib.import_module(f"{_package(root, root)}.{name}")


def root_of(path: Path, base: Path) -> Path:
    """How far up modules are looked for: to `base`, or, outside of it, to where the file's package begins."""
    folder, base = absolute(path).parent, absolute(base)
    if folder.is_relative_to(base):
        return base
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


def _part(name: str) -> str:
    """A file's or a folder's name as a part of a dotted one."""
    return name.replace(".", "_dot_")


def _name(root: Path) -> str:
    return PREFIX + hashlib.sha256(os.fsencode(root)).hexdigest()[:8]


def _forget(root: Path) -> None:
    name = _name(root)
    for known in [known for known in sys.modules if known == name or known.startswith(f"{name}.")]:
        del sys.modules[known]


def _package(folder: Path, root: Path) -> str:
    """The name of the package that the folder is, after it and those above it have been made."""
    name = _name(root)
    _ROOTS[name] = root
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    _made(name, root)
    for part in folder.relative_to(root).parts:
        root = root / part
        parent, name = sys.modules[name], f"{name}.{_part(part)}"
        setattr(parent, _part(part), _made(name, root))
    return name


def _made(name: str, folder: Path) -> ModuleType:
    if name not in sys.modules:
        sys.modules[name] = _Folder(name, folder)
    return sys.modules[name]


class _Folder(ModuleType):
    """The package of a folder on the way to a file. Its __init__.py runs when something of it is asked for."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name)
        self.__package__, self.__path__ = name, [str(folder)]
        self.__spec__ = ModuleSpec(name, None, is_package=True)

    def __getattr__(self, name: str) -> Any:
        folder = Path(self.__path__[0])
        code = folder / "__init__.py"
        is_module = _holds(folder, name) or _is_folder(folder, name)
        if not name.startswith("__") and not is_module and "__file__" not in vars(self) and code.is_file():
            self.__file__ = str(code)
            _Loader(self.__name__, str(code)).exec_module(self)
            return getattr(self, name)
        raise AttributeError(f"{folder} has no module {name}, and its __init__.py nothing of that name")


class _Loader(SourceFileLoader):
    """Gives a module an `import` of its own, which knows where it is."""

    def exec_module(self, module: ModuleType) -> None:
        root = _ROOTS[module.__name__.partition(".")[0]]
        vars(module)["__builtins__"] = vars(builtins) | {"__import__": _importing(Path(self.path).parent, root)}
        super().exec_module(module)


class _Finder:
    """Of the modules below the packages that stand for folders."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(PREFIX):
            return None
        if path is None:  # an import in a function, after the package was forgotten
            spec: ModuleSpec | None = ModuleSpec(name, None, is_package=True)
            assert spec
            spec.submodule_search_locations = [str(_ROOTS[name])]
            return spec
        spec = PathFinder.find_spec(name, path, target)
        if spec and spec.origin and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.origin)
        return spec


_FINDER: Any = _Finder()


def _importing(folder: Path, root: Path) -> Any:
    """`__import__` for the modules of a folder."""

    def own(
        name: str,
        globals: dict[str, Any] | None = None,
        locals: dict[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        place = place_of_module(name.partition(".")[0], folder, root) if level == 0 else None
        if place is None:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        return builtins.__import__(name, {"__package__": _package(place, root)}, locals, fromlist or (), 1)

    return own


def place_of_module(top: str, folder: Path, root: Path) -> Path | None:
    """The folder that a module of the user's own is in. Like Python's, plain folders come after what is installed."""
    if top in sys.stdlib_module_names:
        return None
    places = [place for place in (folder, *folder.parents) if place.is_relative_to(root)]
    for place in places:
        if _holds(place, top):
            return None if _is_loaded(place, top) else place
    if _is_installed(top):
        return None
    return next((place for place in places if _is_folder(place, top)), None)


def _holds(folder: Path, top: str) -> bool:
    return (folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file()


def _is_folder(folder: Path, top: str) -> bool:
    return (folder / top).is_dir() and any((folder / top).glob("*.py"))


def _is_loaded(folder: Path, top: str) -> bool:
    """Whether the program has that very file under its usual name: a second copy would be other classes."""
    file = getattr(sys.modules.get(top), "__file__", None)
    return bool(file) and Path(str(file)) in (folder / f"{top}.py", folder / top / "__init__.py")


def _is_installed(top: str) -> bool:
    if top in sys.modules:
        return True
    try:
        return importlib.util.find_spec(top) is not None
    except ValueError:
        return False
