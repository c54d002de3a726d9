"""Python in the pages: whether it compiles, and whether what it names of this project is there."""

from __future__ import annotations

import ast
import collections.abc
import importlib
import inspect
import sys
from dataclasses import dataclass
from types import ModuleType, UnionType
from typing import Any, Union, get_args, get_origin, get_overloads

OWN = ("builder", "client")
ITERATED = (
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.Sequence,
    list,
    tuple,
)


@dataclass(frozen=True)
class Instance:
    """Something of which only the type is known; `type` is a class, or a class with what it holds."""

    type: Any


def faults(text: str) -> list[str]:
    """Of a block. Raises SyntaxError."""
    compile(text, "block", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    reader = Reader()
    reader.visit(ast.parse(text))
    return reader.found


class Reader(ast.NodeVisitor):
    """Follows names from their imports, as far as annotations tell what they are."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self.found: list[str] = []

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            module = self._import(alias.name)
            top = sys.modules.get(alias.name.partition(".")[0])
            self.names[alias.asname or alias.name.partition(".")[0]] = module if alias.asname else top

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = self._import(node.module or "")
        for alias in node.names:
            if module is not None and not hasattr(module, alias.name):
                self.found.append(f"{node.module} has no {alias.name}")
            self.names[alias.asname or alias.name] = getattr(module, alias.name, None)

    def _import(self, name: str) -> ModuleType | None:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            self.found.append(str(error))
            return None

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            self._bind(target, self._known(node.value))

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self.visit(item.context_expr)
            self._bind(item.optional_vars, self._known(item.context_expr))
        for line in node.body:
            self.visit(line)

    visit_AsyncWith = visit_With  # noqa: N815

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self._bind(node.target, element(self._known(node.iter)))
        for line in [*node.body, *node.orelse]:
            self.visit(line)

    visit_AsyncFor = visit_For  # noqa: N815

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        owner = self._known(node.value)
        if owner is not None and not has(owner, node.attr):
            self.found.append(f"{ast.unparse(node)}: there is no {node.attr}")

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        called = self._known(node.func)
        if not callable(called) or not (called.__module__ or "").startswith(OWN):
            return
        taken = inspect.signature(called).parameters
        for word in node.keywords:
            if word.arg not in taken and not any(one.kind is one.VAR_KEYWORD for one in taken.values()):
                self.found.append(f"{ast.unparse(node.func)} takes no {word.arg}")

    def _bind(self, target: ast.expr | None, value: Any) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = value

    def _known(self, node: ast.expr) -> Any:
        """What an expression is: an object of a module, an Instance, or None for what is not known."""
        match node:
            case ast.Name(id=name):
                return self.names.get(name)
            case ast.Await(value=value):
                return self._known(value)
            case ast.Attribute(value=value, attr=name):
                return member(self._known(value), name)
            case ast.Subscript(value=value):
                return element(self._known(value))
            case ast.Call(func=function):
                return result(overload_of(self._known(function), node))
        return None


def has(owner: Any, name: str) -> bool:
    if not isinstance(owner, Instance):
        return hasattr(owner, name) if isinstance(owner, ModuleType | type) else True
    kind = plain(owner.type)
    own = isinstance(kind, type) and kind.__module__.startswith(OWN)
    return not own or hasattr(kind, name) or name in inspect.get_annotations(kind)


def member(owner: Any, name: str) -> Any:
    if not isinstance(owner, Instance):
        return getattr(owner, name, None) if isinstance(owner, ModuleType | type) else None
    kind = plain(owner.type)
    found = getattr(kind, name, None)
    if callable(found):
        return found
    annotation = inspect.get_annotations(kind).get(name) if isinstance(kind, type) else None
    return resolved(annotation, kind)


def overload_of(called: Any, call: ast.Call) -> Any:
    """Of one thing, or of the list that is written there; None where a name may be either."""
    overloads = get_overloads(called) if inspect.isfunction(called) else []
    if not overloads:
        return called
    match call.args:
        case [ast.List() | ast.Tuple() | ast.ListComp(), *_]:
            return overloads[-1]
        case [ast.Constant(), *_]:
            return overloads[0]
    return None


def result(called: Any) -> Any:
    if isinstance(called, type):
        return Instance(called)
    if not callable(called):
        return None
    return resolved(inspect.get_annotations(called).get("return"), called)


def resolved(annotation: Any, owner: Any) -> Any:
    """An annotation as an Instance; None where it cannot be had, as of names that only a type checker imports."""
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, vars(sys.modules[owner.__module__]))
        except (NameError, AttributeError):
            return None
    return None if annotation is None else Instance(annotation)


def element(found: Any) -> Any:
    """Of what is iterated over, or looked up in by a number."""
    if isinstance(found, Instance) and get_origin(found.type) in ITERATED and get_args(found.type):
        return Instance(get_args(found.type)[0])
    return None


def plain(kind: Any) -> Any:
    """The class, without what it holds."""
    if isinstance(kind, UnionType) or get_origin(kind) is Union:
        return None
    return get_origin(kind) or kind
