"""Whether the Python that runs a model has the packages that its code imports."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Iterator

from builder.check import backends
from builder.check.backends import python
from builder.check.findings import Finding, Level, Rule
from builder.check.model import Context, Model
from builder.check.rules.naming import quoted
from builder.check.target import EMBEDDED

PACKAGE = Rule(
    "TMR908",
    "package-not-in-image",
    Level.WARNING,
    "The code of a Python model imports a package that NVIDIA's image does not have.",
    "The image has NumPy, and nothing else that models are made of; the model does not load in it.",
    "Install the package in an image of your own, or pack it, and name the archive in EXECUTION_ENV_PATH.",
    "server: build.py; python_backend: README",
)
RULES = (PACKAGE,)

BROUGHT = frozenset(
    {
        *("triton_python_backend_utils", "c_python_backend_utils", "numpy", "tritonserver", "tritonfrontend"),
        *("pip", "setuptools", "pkg_resources", "wheel", "virtualenv", "packaging", "six"),
        *("nvidia", "astunparse", "gast", "tree", "wrapt", "attr", "google"),
    }
)
"""By NVIDIA's images, DALI's needs among them."""
FORMER = frozenset(
    {"distutils", "imp", "asynchat", "asyncore", "smtpd", "cgi", "crypt", "pipes", "imghdr", "telnetlib"}
)
"""Modules of Python's own that newer ones do not have."""
LARGER = ("vllm", "tensorrtllm")
"""Backends whose images have PyTorch and much else."""


def check(model: Model, context: Context) -> Iterator[Finding]:
    if model.filled.backend != "python" or _says_for_itself(model) or backends.place.is_foreign(model):
        return
    missing = [found for found in python.imports(model) if not _is_there(model, found[1], context)]
    if missing and any(other.filled.backend in LARGER for other in context.models.values()):
        return
    for path, name, line in missing:
        yield model.finding_at(PACKAGE, path, f"line {line} imports {quoted(name)}")


def _is_there(model: Model, name: str, context: Context) -> bool:
    if name in sys.stdlib_module_names or name in BROUGHT or name in FORMER:
        return True
    return _is_beside(model, name) or (context.target == EMBEDDED and _is_here(name))


def _says_for_itself(model: Model) -> bool:
    """Whether it brings its packages, or tells which ones whoever builds its image has to install."""
    return any(key in model.filled.parameters for key in ("EXECUTION_ENV_PATH", "requirements"))


def _is_beside(model: Model, name: str) -> bool:
    """Code of its own, wherever it may be put."""
    versions = list(model.version_folders.values())
    if any((folder / name).exists() for folder in (*versions, model.folder, model.folder.parent)):
        return True
    if any((folder / f"{name}.py").exists() for folder in (model.folder, model.folder.parent)):
        return True
    return any(any(folder.glob(f"{name}.*")) for folder in versions)  # compiled ones have longer endings


@functools.cache
def _is_here(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
