"""The Python backend: a class of the right name in a file that Python can read; what it fills in, only it knows."""

from __future__ import annotations

import ast
import functools
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from builder.check.backends import parameters, place
from builder.check.files import is_there
from builder.check.findings import Finding, Level, Rule
from builder.check.model import Context, Model

DEFAULT_FILE = "model.py"
CLASS = "TritonPythonModel"
SOURCE = "python_backend: src/pb_stub.cc"
NAME = Rule(
    "TMR751",
    "python-file-name",
    Level.ERROR,
    "The Python file's name cannot be imported.",
    "The backend imports it as a module: its name ends in .py and has no other dot.",
    "Rename the file, and say so in `default_model_filename`.",
    SOURCE,
)
NO_CLASS = Rule(
    "TMR752",
    "python-class-missing",
    Level.ERROR,
    "The Python file has no TritonPythonModel.",
    "The backend makes its instances of a class with that very name.",
    "Name the class TritonPythonModel.",
    SOURCE,
)
SYNTAX = Rule(
    "TMR753",
    "python-syntax",
    Level.ERROR,
    "The Python file is no Python.",
    "It is imported when the model loads.",
    "Correct the line.",
    SOURCE,
)
ENVIRONMENT = Rule(
    "TMR754",
    "python-environment-missing",
    Level.ERROR,
    "EXECUTION_ENV_PATH names something in the model's folder that is not there.",
    "The backend unpacks the environment before it starts Python.",
    "Put the archive there, or correct the path.",
    "python_backend: src/pb_env.cc",
)
ELSEWHERE = Rule(
    "TMR834",
    "python-environment-elsewhere",
    Level.WARNING,
    "EXECUTION_ENV_PATH names something outside of the model's folder, which is not on this machine.",
    "The model loads only where the server has it under that very path.",
    "Put the archive into the model's folder, and write $$TRITON_MODEL_DIRECTORY before its name.",
    "python_backend: src/python_be.cc",
)
AUTO_COMPLETE = Rule(
    "TMR755",
    "python-auto-complete",
    Level.ERROR,
    "auto_complete_config cannot be called with the config alone, or gives nothing back.",
    "The backend calls it on the class, before there is an instance, and takes what it returns for the config.",
    "Make it a @staticmethod that takes the config and returns it.",
    SOURCE,
)
INITIALIZE = Rule(
    "TMR756",
    "python-initialize",
    Level.ERROR,
    "__init__ or initialize asks for other arguments than the backend gives.",
    "The backend makes the instance without arguments, and gives initialize one.",
    "Write `def initialize(self, args):`, and no __init__ with arguments.",
    SOURCE,
)
NO_EXECUTE = Rule(
    "TMR835",
    "python-execute-missing",
    Level.WARNING,
    "TritonPythonModel has no execute.",
    "The model loads, and every request to it fails.",
    "Write `def execute(self, requests):`.",
    SOURCE,
)
RULES: tuple[Rule, ...] = (NAME, NO_CLASS, SYNTAX, ENVIRONMENT, ELSEWHERE, AUTO_COMPLETE, INITIALIZE, NO_EXECUTE)
DIRECTORY = "$$TRITON_MODEL_DIRECTORY"
MOST_BYTES = 1024 * 1024
"""Of a file that is read; one of more is not judged."""
DYNAMIC = re.compile(rb"import \*|\bexec\(|globals\(|__getattr__|sys\.modules|setattr\(|vars\(")
"""What may bind a name that is nowhere written."""
ELSEWHERE_TOO = re.compile(rb"\bsys\.(path|meta_path|modules)\b|\bsite\b|subprocess|\bpip\b")
"""What may bring packages that are not there yet."""
NEWER = re.compile(r"\s*type\s+\w|\s*(class|def|async def)\s+\w+\s*\[")
"""Lines that a newer Python than this one may read."""
STATIC = ("staticmethod", "classmethod")


def _yes_or_no(value: str) -> str:
    return "" if value in ("yes", "no") else f"Incorrect value for FORCE_CPU_ONLY_INPUT_TENSORS: {value}"


PARAMETERS: dict[str, parameters.Reads] = {"FORCE_CPU_ONLY_INPUT_TENSORS": _yes_or_no}


@dataclass(frozen=True)
class _Code:
    """What is wrong in a file, by rule: in our words, and the server's."""

    faults: tuple[tuple[Rule, str, str], ...] = ()
    completes: bool = False
    """Whether it has auto_complete_config, or may have."""
    imports: tuple[tuple[str, int], ...] = ()
    """Packages that it cannot do without, as far as that is sure, with the lines."""


def demands(model: Model, context: Context) -> Iterator[Finding]:
    yield from place.check(model, DEFAULT_FILE, server="Python model file not found in", other="No module named")
    yield from parameters.check(model, PARAMETERS)
    yield from _environment(model)
    name = model.filled.default_model_filename.rpartition("/")[2]
    if name and (not name.endswith(".py") or name.count(".") > 1):
        server = "No module named" if name.endswith(".py") else "Model name must end with '.py'"
        yield model.finding(NAME, f"{name!r} is no name of a module", "default_model_filename", server=server)
    for artifact in place.artifacts(model, DEFAULT_FILE):
        for rule, message, server in _code(artifact.path).faults:
            if rule is AUTO_COMPLETE and context.strict:
                continue
            yield model.finding_at(rule, artifact.path, message, server)


def artifacts(model: Model, context: Context) -> Iterator[Finding]:
    yield from ()


def completes(model: Model) -> bool:
    """Whether the code may fill in inputs, outputs and max_batch_size, which nobody can tell without running it."""
    return any(_code(artifact.path).completes for artifact in place.artifacts(model, DEFAULT_FILE))


def imports(model: Model) -> Iterator[tuple[Path, str, int]]:
    """What its files import whatever happens: the file, the package and the line."""
    for artifact in place.artifacts(model, DEFAULT_FILE):
        for name, line in _code(artifact.path).imports:
            yield artifact.path, name, line


def _environment(model: Model) -> Iterator[Finding]:
    if "EXECUTION_ENV_PATH" not in model.filled.parameters:
        return
    given = model.filled.parameters["EXECUTION_ENV_PATH"].string_value
    path = Path(given.replace(DIRECTORY, str(model.folder)))
    if not given or "://" in given or "\0" in given or is_there(path):
        return
    is_own = DIRECTORY in given
    server = "Failed to get the canonical path for" if is_own else ""
    message = f"EXECUTION_ENV_PATH is {given!r}, which is not there"
    rule = ENVIRONMENT if is_own else ELSEWHERE
    yield model.finding(rule, message, "parameters", "EXECUTION_ENV_PATH", server=server)


def _code(path: Path) -> _Code:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES)
    except OSError:
        return _Code(completes=True)
    return _Code(completes=True) if len(data) == MOST_BYTES else _read(data)


@functools.lru_cache(maxsize=1024)
def _read(data: bytes) -> _Code:
    """Of a file's content: many models have the same."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(data)
    except SyntaxError as error:
        is_newer = sys.version_info < (3, 12) and ("f-string" in str(error.msg) or NEWER.match(error.text or ""))
        fault = (SYNTAX, f"line {error.lineno}: {error.msg}", "SyntaxError")
        return _Code(completes=True) if is_newer else _Code((fault,))
    except ValueError as error:
        return _Code(((SYNTAX, str(error), "null bytes"),)) if b"\0" in data else _Code(completes=True)
    except (RecursionError, MemoryError):
        return _Code(completes=True)
    return replace(_of(tree, data), imports=tuple(_imports(tree, data)))


def _imports(tree: ast.Module, data: bytes) -> Iterator[tuple[str, int]]:
    """Those that stand in no `try` and no `if`; none where the file looks for packages elsewhere by itself."""
    if ELSEWHERE_TOO.search(data):
        return
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0], node.lineno


def _of(tree: ast.Module, data: bytes) -> _Code:
    if not _binds(tree) and not DYNAMIC.search(data):
        server = f"has no attribute '{CLASS}'"
        return _Code(((NO_CLASS, f"no class is named {CLASS}", server),))
    found = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == CLASS]
    if len(found) != 1 or found[0].decorator_list or found[0].keywords:
        return _Code(completes=True)
    return _of_class(found[0])


def _binds(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == CLASS:
            return True
        if isinstance(node, ast.Name) and node.id == CLASS and isinstance(node.ctx, ast.Store):
            return True
        if isinstance(node, ast.alias) and (node.asname or node.name) == CLASS:
            return True
    return False


def _of_class(node: ast.ClassDef) -> _Code:
    methods = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
    others = [item for item in node.body if not isinstance(item, ast.FunctionDef | ast.Expr | ast.Pass)]
    is_whole = not node.bases and not others
    faults = [*_completing(methods.get("auto_complete_config")), *_starting(methods)]
    if is_whole and "execute" not in methods and "__getattr__" not in methods:
        faults.append((NO_EXECUTE, f"{CLASS} has no execute", ""))
    return _Code(tuple(faults), completes="auto_complete_config" in methods or not is_whole)


def _completing(method: ast.FunctionDef | None) -> Iterator[tuple[Rule, str, str]]:
    if method is None:
        return
    decorators = [ast.unparse(decorator) for decorator in method.decorator_list]
    if any(decorator not in STATIC for decorator in decorators):
        return
    if _fails_with(method, 2 if "classmethod" in decorators else 1):
        server = f"{CLASS}.auto_complete_config() " if sys.version_info >= (3, 10) else "auto_complete_config() "
        yield AUTO_COMPLETE, "auto_complete_config cannot be called with the config alone", server
    elif not any(isinstance(inner, ast.Return | ast.Yield) for inner in ast.walk(method)):
        yield AUTO_COMPLETE, "auto_complete_config returns nothing", "must return a valid pb.ModelConfig object"


def _starting(methods: dict[str, ast.FunctionDef]) -> Iterator[tuple[Rule, str, str]]:
    for name, given in (("__init__", 1), ("initialize", 2)):
        method = methods.get(name)
        if method and not method.decorator_list and _fails_with(method, given):
            yield INITIALIZE, f"{name} cannot be called with what the backend gives it", f"{name}() "


def _fails_with(method: ast.FunctionDef, count: int) -> bool:
    """Whether it cannot be called with so many arguments by place, its own object among them."""
    arguments = method.args
    places = len(arguments.posonlyargs) + len(arguments.args)
    needed = places - len(arguments.defaults)
    if any(default is None for default in arguments.kw_defaults):
        return True
    return count < needed or (count > places and arguments.vararg is None)
