"""YAML files <-> pydantic models, with every mistake named by file, line and key."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from builder.errors import ManifestError
from builder.util import texts, yamltree
from builder.util.yamltree import Node

Parsed = TypeVar("Parsed", bound=BaseModel)


MOST_MISTAKES = 20
"""Mistakes that one message tells."""


@dataclass(frozen=True)
class Document(Generic[Parsed]):
    """What a file says, and where in the file each thing was written."""

    path: Path
    parsed: Parsed
    tree: Node

    def error(self, message: str, *keys: str | int) -> ManifestError:
        """A ManifestError that names the file, line and key."""
        return error_at(self.path, self.tree, message, *keys)


def load(path: Path, model: type[Parsed], absent: str, expected: str) -> Document[Parsed]:
    """Read a file, and hold it to its model.

    `absent` says what to do without one, `expected` what is in it. Raises ManifestError.
    """
    tree = _read_yaml(path, absent)
    if not tree.is_mapping:
        raise ManifestError(f"{path}:1: expected {expected}")
    try:
        return Document(path, model.model_validate(yamltree.plain(tree)), tree)
    except ValidationError as error:
        mistakes = [_explain(path, tree, model, item) for item in error.errors(include_url=False)[:MOST_MISTAKES]]
        more = error.error_count() - MOST_MISTAKES
        raise ManifestError("\n".join(mistakes) + (f"\nand {more} more" if more > 0 else "")) from None


def error_at(path: Path, tree: Node | None, message: str, *keys: str | int) -> ManifestError:
    """`file:line: dotted.key: message`, for the deepest of `keys` that the file holds."""
    line, via = 1, set[int]()
    for _, entry in yamltree.walk(tree, keys) if tree else ():
        line, via = entry.line, via | set(entry.via)
    dotted = ".".join(_in_one_line(str(key)) for key in keys)
    place = f"{path}:{line}: {dotted}" if dotted else f"{path}:{line}"
    error = ManifestError(f"{place}: {message}{_brought(via - {line})}")
    error.has_place = True
    return error


def _in_one_line(text: str) -> str:
    """A key may hold what breaks lines or moves a terminal's cursor."""
    return text if text.isprintable() else repr(text)


def has_key(tree: Node, *keys: str | int) -> bool:
    """Whether the file gives the last of `keys`, where the others lead; merged keys count."""
    return [key for key, _ in yamltree.walk(tree, keys)] == list(keys)


def _brought(lines: set[int]) -> str:
    """Of mistakes in what an alias names: where it is used."""
    if not lines:
        return ""
    return f" (brought in by line{'s' * (len(lines) > 1)} {', '.join(map(str, sorted(lines)))})"


def _read_yaml(path: Path, absent: str) -> Node:
    try:
        return yamltree.read(texts.read(path))
    except FileNotFoundError:
        raise ManifestError(f"{path} does not exist; {absent}") from None
    except texts.NotUtf8 as error:
        raise ManifestError(f"{error}") from None
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror or error}") from None
    except yamltree.Mistake as mistake:
        raise ManifestError(f"{path}:{mistake.line}: {mistake.problem}") from None


def _explain(path: Path, tree: Node, model: type[BaseModel], item: Any) -> str:
    # Parts of pydantic's location that the file does not have are the types that it tried, or a missing key.
    keys = [key for key, _ in yamltree.walk(tree, item["loc"])]
    return str(error_at(path, tree, _message(item, keys, model), *keys))


def _message(item: Any, keys: list[Any], model: type[BaseModel]) -> str:
    if item["type"] == "extra_forbidden":
        word = str(item["loc"][-1])
        known, others = _known_keys(model, keys, item["loc"])
        if kinds := [tag for tag, there in others.items() if word in there]:
            return f"unknown key; it is one of {', '.join(kinds)} alone"
        return "unknown key" + _suggestion(word, known)
    if item["type"] == "missing":
        return f"the key {item['loc'][-1]!r} is missing"
    if item["type"] == "model_type":
        return f"expected keys and their values{_given(item)}"
    if item["type"] == "string_pattern_mismatch":
        return "a model's name may have letters, digits, '_', '-' and '.', no others"
    return f"{item['msg'].removeprefix('Value error, ')}{_given(item)}"


def _given(item: Any) -> str:
    scalar = isinstance(item["input"], str | int | float | bool)
    return f" (it says {item['input']!r})" if scalar else ""


def _known_keys(
    model: type[BaseModel], keys: list[Any], loc: tuple[Any, ...]
) -> tuple[list[str], dict[str, list[str]]]:
    """The keys that may stand where the last of `keys` does, and, by kind, those that others of its place have.

    `loc` names the kinds of what may be of several.
    """
    above = iter(keys[:-1])
    found: dict[str, type[BaseModel]] = {}
    for key in above:
        annotation = model.model_fields[key].annotation
        found = dict(_models_in(annotation))
        model = next((kind for tag, kind in found.items() if tag in loc), next(iter(found.values())))
        if get_origin(annotation) is dict:
            next(above, None)  # a key of the user's choice
    others = {tag: list(kind.model_fields) for tag, kind in found.items() if tag and kind is not model}
    return list(model.model_fields), others


def _models_in(annotation: Any, tag: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The models of an annotation, by the tags that pydantic tells them apart by."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield tag, annotation
    own = [part.tag for part in get_args(annotation) if isinstance(part, Tag)]
    for part in get_args(annotation):
        yield from _models_in(part, own[0] if own else tag)


def _suggestion(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known keys: {', '.join(known)}"
