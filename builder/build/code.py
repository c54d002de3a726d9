"""The user's own code that an entry names, and the packages that this imports."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path

from builder.util.usercode import is_callable_name
from builder.util.usercode.files import imported_files, imported_names

DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "pytorch_lightning": "pytorch-lightning",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
"""Of packages that are not called as their distributions are. Asking for all takes 0.3 s."""


def files_of(name: str, base: Path) -> Iterator[Path]:
    """The file of a callable, or the module beside the manifest, with what they import of the user's own."""
    if not is_callable_name(name):
        return
    place = name.rpartition(":")[0]
    top = base / place.partition(".")[0]
    if place.endswith(".py"):
        files = [base / place]
    else:
        files = [*top.rglob("*.py")] if top.is_dir() else [top.with_suffix(".py")]
    for file in files:
        yield from imported_files(file, base)


def elsewhere(name: str) -> list[Path]:
    """The files of a callable's package that Python finds by itself, where no version tells what is in it."""
    place = name.rpartition(":")[0]
    if not place or place.endswith(".py"):
        return []
    origin = _origin(place.partition(".")[0])
    if origin is None or _is_installed(origin):
        return []
    return sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]


def _origin(top: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _is_installed(file: Path) -> bool:
    """Not so of packages that are installed to be edited, nor of what PYTHONPATH names."""
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(str(file).startswith(f"{folder}{os.sep}") for folder in folders)


def packages(files: Iterable[Path], names: Iterable[str]) -> dict[str, str]:
    """The versions of the distributions that the files import, or that the callables come from."""
    tops = {name.rpartition(":")[0].partition(".")[0] for name in names if is_callable_name(name)}
    tops = tops.union(*map(imported_names, files)) - sys.stdlib_module_names
    found = {DISTRIBUTIONS.get(top, top): installed(DISTRIBUTIONS.get(top, top)) for top in tops if top.isidentifier()}
    return {name: version for name, version in sorted(found.items()) if version}


@functools.cache
def installed(name: str) -> str:
    """Empty for what is not."""
    try:
        return package_version(name)
    except (PackageNotFoundError, ValueError):
        return ""
