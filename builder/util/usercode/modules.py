"""The user's files as modules, with what lies beside them, each folder's own.

`import blocks` and `from .blocks import block` in nets/mine.py mean nets/blocks.py, or one in a folder above it up to
the manifest's, as they would for `python nets/mine.py` and `python -m nets.mine`. Two folders with a blocks.py each
keep theirs apart: their modules are named by their place, below a package that stands for the manifest's folder, and
what a file imports is looked for from its own folder, not in `sys.path`, which all share.

An entry's network, images and training data share their modules, which `forget` ends: what has been made of a class
is of it for as long as the entry lasts, and the next entry reads files that may have changed.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

PREFIX = "build_repo_user_"
_ROOTS: dict[str, Path] = {}
"""Folders of the user's code, by the name of the package that stands for each."""
_SOURCES: dict[Path, bytes] = {}
"""What the files that were named had in them when they were read."""
_PLAIN: dict[str, str] = {}
"""Modules that code which is not the user's asks for by their own name: the name that they have here."""


def import_file(path: Path, base: Path) -> ModuleType:
    """The file's module, which is made once an entry, and anew where the file has changed."""
    path, root = absolute(path), root_of(path, base)
    source = path.read_bytes()
    if _SOURCES.get(path, source) != source:
        forget()
    _SOURCES[path] = source
    name = _free(f"{_package(path.parent, root)}.{_part(path.stem)}", lambda known: _file_of(known) == path)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, str(path)))
    assert spec  # always so for a .py file
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look modules up here
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def import_module(name: str, base: Path) -> ModuleType:
    """An installed module, or else one below `base`, which pickled objects find by that name, too."""
    top, root = name.partition(".")[0], absolute(base)
    if _is_installed(top) or not (_holds(root, top) or _is_folder(root, top)):
        return importlib.import_module(name)
    package = _package(root, root)
    _PLAIN[top] = f"{package}.{top}"
    return importlib.import_module(f"{package}.{name}")


def forget() -> None:
    """From here on, the user's files are read anew."""
    for name in list(sys.modules):
        top = name.partition(".")[0]
        if top in _PLAIN or top.startswith(PREFIX):
            del sys.modules[name]
    _PLAIN.clear()
    _SOURCES.clear()


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


def _free(name: str, is_same: Callable[[ModuleType], bool]) -> str:
    """The name, or one like it if another has it: nets/a.py and a folder nets/a would have the same."""
    while name in sys.modules and not is_same(sys.modules[name]):
        name += "_"
    return name


def _file_of(module: ModuleType) -> Path:
    return Path(str(getattr(module, "__file__", None)))


def _is_of(module: ModuleType, folder: Path) -> bool:
    return str(folder) in getattr(module, "__path__", ())


def _package(folder: Path, root: Path) -> str:
    """The name of the package that the folder is, after it and those above it have been made."""
    name = _name(root)
    _ROOTS[name] = root
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    _made(name, root)
    for part in folder.relative_to(root).parts:
        root = root / part
        parent, name = sys.modules[name], _free(f"{name}.{_part(part)}", partial(_is_of, folder=root))
        setattr(parent, name.rpartition(".")[2], _made(name, root))
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
        vars(module)["__builtins__"] = vars(builtins) | {"__import__": _importing(Path(self.path), root)}
        super().exec_module(module)


class _Same(Loader):
    """A loader that gives a module that is there already, under its other name."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        del spec
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


class _Finder:
    """Finds the modules below the packages that stand for folders."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.partition(".")[0] in _PLAIN:
            return _plain_spec(name)
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


def _plain_spec(name: str) -> ModuleSpec | None:
    top, dot, rest = name.partition(".")
    placed = f"{_PLAIN[top]}{dot}{rest}"
    try:
        return ModuleSpec(name, _Same(importlib.import_module(placed)))
    except ModuleNotFoundError as error:
        if error.name == placed:
            return None
        raise


def _importing(file: Path, root: Path) -> Any:
    """`__import__` for a file's module."""

    def own(
        name: str,
        globals: dict[str, Any] | None = None,
        locals: dict[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        top, _, rest = name.partition(".")
        parts = [rest.partition(".")[0]] if rest else fromlist or ()
        place = place_of_module(top, parts, file, root) if level == 0 else None
        if place is None:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        package = _package(place, root)
        module = builtins.__import__(name, {"__package__": package}, locals, fromlist or (), 1)
        if isinstance(fromlist, list):  # not a statement, but C code such as pickle's, which looks in sys.modules next
            _name_plainly(name, package)
        return module

    return own


def _name_plainly(name: str, package: str) -> None:
    """Have the module of the package by its own name, too, unless that is another's."""
    top = name.partition(".")[0]
    if top in _PLAIN or top not in sys.modules:
        _PLAIN[top] = f"{package}.{top}"
        sys.modules[name] = sys.modules[f"{package}.{name}"]


def place_of_module(top: str, parts: Sequence[str], file: Path, root: Path, is_loaded_too: bool = False) -> Path | None:
    """The folder of a module of the user's own that `file` imports, or `parts` of; None if another's is meant.

    None, too, if the program has that very file under its usual name, unless `is_loaded_too`.

    As for `python FILE`, its own folder comes before what is installed. Folders above it come after that: there,
    names such as `datasets` are chosen without a thought of its imports. So do, as everywhere, plain folders.
    """
    if top in sys.stdlib_module_names:
        return None
    places = [place for place in (file.parent, *file.parents) if place.is_relative_to(root)]
    holding = [place for place in places if _holds(place, top)]
    near = [place for place in holding if _is_near(place, top, file) and not _is_wrapper(place / top, parts, file)]
    if not near and _is_installed(top, places):
        return None
    for place in near + holding:
        return None if _is_loaded(place, top) and not is_loaded_too else place
    return next((place for place in places if _is_folder(place, top)), None)


def _is_near(place: Path, top: str, file: Path) -> bool:
    """Whether it is the file's own folder, or where a package of that name begins that the file is in."""
    if place == file.parent:
        return True
    inner = [folder for folder in file.parents if folder.is_relative_to(place / top)]
    return bool(inner) and all((folder / "__init__.py").is_file() for folder in inner)


def _is_wrapper(package: Path, parts: Sequence[str], file: Path) -> bool:
    """Whether the file would import itself: torchvision.py, or its package's __init__.py, means what is installed."""
    if file not in (package.with_name(f"{package.name}.py"), package / "__init__.py"):
        return False
    return file.name != "__init__.py" or not any(_holds(package, part) or _is_folder(package, part) for part in parts)


def _files(folder: Path, top: str) -> tuple[Path, Path]:
    return folder / f"{top}.py", folder / top / "__init__.py"


def _holds(folder: Path, top: str) -> bool:
    return any(file.is_file() for file in _files(folder, top))


def _is_folder(folder: Path, top: str) -> bool:
    return (folder / top).is_dir() and any((folder / top).glob("*.py"))


def _is_loaded(folder: Path, top: str) -> bool:
    """Whether the program has that very file under its usual name: a second copy would be other classes."""
    return top in sys.modules and _file_of(sys.modules[top]) in _files(folder, top)


def _is_installed(top: str, places: Sequence[Path] = ()) -> bool:
    """Whether Python finds it by itself, and not in one of the user's `places`, which `sys.path` may have as well."""
    if top in _PLAIN:
        return False
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:
        return top in sys.modules
    if spec is None:
        return False
    found = {spec.origin, *(spec.submodule_search_locations or ())}
    return not any(str(path) in found for place in places for path in (*_files(place, top), place / top))
