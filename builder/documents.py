"""YAML files <-> pydantic models, with every mistake named by file, line and key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from builder.errors import ManifestError

Parsed = TypeVar("Parsed", bound=BaseModel)


@dataclass(frozen=True)
class Document(Generic[Parsed]):
    """What a file says, and where in the file each thing was written."""

    path: Path
    parsed: Parsed
    tree: Any

    def error(self, message: str, *keys: str | int) -> ManifestError:
        """A ManifestError that names the file, line and key."""
        return error_at(self.path, self.tree, message, *keys)


def load(path: Path, model: type[Parsed], absent: str, expected: str) -> Document[Parsed]:
    """Read and check a file. `absent` says what to do without one, `expected` what is in it. Raises ManifestError."""
    tree = _read_yaml(path, absent)
    if not isinstance(tree, CommentedMap):
        raise ManifestError(f"{path}:1: expected {expected}")
    try:
        return Document(path, model.model_validate(_plain(tree)), tree)
    except ValidationError as error:
        raise ManifestError("\n".join(_explain(path, tree, model, item) for item in error.errors())) from None


def error_at(path: Path, tree: Any, message: str, *keys: str | int) -> ManifestError:
    return ManifestError(f"{_place(path, tree, keys)}: {message}")


def _read_yaml(path: Path, absent: str) -> Any:
    try:
        return YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(f"{path} does not exist; {absent}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from None
    except DuplicateKeyError as error:
        key = re.search(r'key "([^"]*)"', str(error.problem))
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        name = f"{key[1]}: " if key else ""
        raise ManifestError(f"{path}:{line}: {name}this key was already given above; keep one") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ManifestError(f"{path}:{mark.line + 1 if mark else 1}: not valid YAML: {error.problem}") from None
    except YAMLError as error:
        raise ManifestError(f"{path}: not valid YAML: {error}") from None


def _plain(node: Any) -> Any:
    """ruamel's commented containers and scalars as Python's own, which pydantic checks strictly."""
    if isinstance(node, CommentedMap):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _explain(path: Path, tree: Any, model: type[BaseModel], item: Any) -> str:
    keys = [key for key in item["loc"] if _is_written(tree, item["loc"], key)]
    return f"{_place(path, tree, keys)}: {_message(item, keys, model)}"


def _message(item: Any, keys: list[Any], model: type[BaseModel]) -> str:
    if item["type"] == "extra_forbidden":
        return "unknown key" + _suggestion(str(item["loc"][-1]), _known_keys(model, keys))
    if item["type"] == "missing":
        return f"the key {item['loc'][-1]!r} is missing"
    if item["type"] == "string_pattern_mismatch":
        return "a model's name may have letters, digits, '_', '-' and '.', no others"
    return f"{item['msg']}{_given(item)}"


def _given(item: Any) -> str:
    scalar = isinstance(item["input"], str | int | float | bool)
    return f" (it says {item['input']!r})" if scalar else ""


def _is_written(tree: Any, location: tuple[Any, ...], key: Any) -> bool:
    """Whether a part of pydantic's location is a key of the file, not the name of a type it tried."""
    node = tree
    for part in location[: location.index(key) + 1]:
        if (isinstance(node, CommentedMap) and part in node) or (
            isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node)
        ):
            node, found = node[part], True
        else:
            found = False
    return found


def _known_keys(model: type[BaseModel], keys: list[Any]) -> list[str]:
    """The keys that may stand where the last of `keys` does."""
    above = iter(keys[:-1])
    for key in above:
        annotation = model.model_fields[key].annotation
        model = next(_models_in(annotation))
        if get_origin(annotation) is dict:
            next(above, None)  # a key of the user's choice
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _suggestion(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known keys: {', '.join(known)}"


def _place(path: Path, tree: Any, keys: tuple[Any, ...] | list[Any]) -> str:
    """`file:line: dotted.key` of the deepest of `keys` that the file holds."""
    node, line = tree, 0
    for key in keys:
        if isinstance(node, CommentedMap) and key in node:
            line, node = node.lc.key(key)[0], node[key]
        elif isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node):
            line, node = node.lc.item(key)[0], node[key]
    dotted = ".".join(str(key) for key in keys)
    return f"{path}:{line + 1}: {dotted}" if dotted else f"{path}:{line + 1}"
