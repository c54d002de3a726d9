"""YAML text -> plain values, and the line that each was written in.

Values are those of YAML 1.2's core schema, as editors read them, so that dates are text; and 007 is text, since
YAML 1.1 counts in eights there. Keys are text always. Merge keys (`<<: *name`) are those of YAML 1.1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

MERGE = "<<"
TAG = "tag:yaml.org,2002:"
# Far beyond what a file of ours needs, and read within a second.
MAX_DEPTH = 100
MAX_BROUGHT = 100_000
"""Values that aliases may bring in, all of them together."""
MAX_DIGITS = 40

WHOLE = r"(?:0|[1-9][0-9]*)"
CORE: tuple[tuple[str, Callable[[str], Any]], ...] = (
    (r"null|Null|NULL|~|", lambda _: None),
    (r"true|True|TRUE|false|False|FALSE", lambda text: text.lower() == "true"),
    (rf"[-+]?{WHOLE}", int),
    (r"0o[0-7]+", lambda text: int(text, 8)),
    (r"0x[0-9a-fA-F]+", lambda text: int(text, 16)),
    (rf"[-+]?(?:\.[0-9]+|{WHOLE}(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", float),
    (r"[-+]?\.(?:inf|Inf|INF)", lambda text: -math.inf if text[0] == "-" else math.inf),
    (r"\.(?:nan|NaN|NAN)", lambda _: math.nan),
)


class Mistake(ValueError):
    """What a file may not say; `line` is counted from 1."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(line, problem)
        self.line, self.problem = line, problem


@dataclass(frozen=True, slots=True)
class Item:
    """What stands at a key of a mapping, or at a place of a list."""

    node: Node
    line: int
    """Where its key, or it, was written: for a merged key, in the mapping that was merged."""
    via: tuple[int, ...] = ()
    """Lines of the aliases that brought it here."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the file."""

    line: int
    scalar: Any = None
    parts: dict[str | int, Item] | None = None
    """Values of a mapping by key, or of a list by number; None: a scalar."""
    is_list: bool = False
    size: int = 1
    """Values in it, itself included, with all that aliases bring."""
    depth: int = 1

    @property
    def is_mapping(self) -> bool:
        return self.parts is not None and not self.is_list


def read(text: str) -> Node:
    """What the text says. Raises Mistake."""
    try:
        return _Reader(text).document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Mistake(mark.line + 1 if mark else 1, f"not valid YAML: {error.problem}") from None
    except YAMLError as error:
        raise Mistake(1, f"not valid YAML: {str(error).splitlines()[0]}") from None


def plain(node: Node) -> Any:
    """The tree as Python's own dicts, lists and scalars."""
    if node.parts is None:
        return node.scalar
    if node.is_list:
        return [plain(entry.node) for entry in node.parts.values()]
    return {key: plain(entry.node) for key, entry in node.parts.items()}


def walk(root: Node, keys: tuple[Any, ...] | list[Any]) -> Iterator[tuple[str | int, Item]]:
    """The entries on the way that `keys` describe; those that the file does not have are passed over."""
    node = root
    for key in keys:
        entry = (node.parts or {}).get(key)
        if entry is not None:
            yield key, entry
            node = entry.node


class _Reader:
    """One pass over the parser's events. An anchor is known once what it names is complete: nothing holds itself."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = YAML(typ="safe", pure=True).parse(text)
        self._anchors: dict[str | None, Node | None] = {}
        self._brought = 0

    def document(self) -> Node:
        event = next(self._events)
        while isinstance(event, StreamStartEvent | DocumentStartEvent):
            event = next(self._events)
        if isinstance(event, StreamEndEvent):
            return Node(1)
        root = self._value(event, MAX_DEPTH)
        for event in self._events:
            if not isinstance(event, DocumentEndEvent | StreamEndEvent):
                raise Mistake(_line(event), "a second document begins here; keep one")
        return root

    def _value(self, event: NodeEvent, depth: int) -> Node:
        """What the event begins, at most so deep."""
        if isinstance(event, ScalarEvent | CollectionStartEvent):
            self._anchors[event.anchor] = None
            node = self._anchors[event.anchor] = self._written(event, depth)
        else:
            node = self._alias(event)
        if node.depth > depth:
            raise Mistake(_line(event), f"more than {MAX_DEPTH} levels of nesting")
        return node

    def _written(self, event: ScalarEvent | CollectionStartEvent, depth: int) -> Node:
        if isinstance(event, ScalarEvent):
            return Node(_line(event), _scalar(event))
        if depth <= 1:
            raise Mistake(_line(event), f"more than {MAX_DEPTH} levels of nesting")
        is_list = isinstance(event, SequenceStartEvent)
        _require_tag(event, "seq" if is_list else "map")
        parts = self._items(depth - 1) if is_list else self._mapping(depth - 1)
        inner = [entry.node for entry in parts.values()]
        size, deepest = 1 + sum(node.size for node in inner), max((node.depth for node in inner), default=0)
        return Node(_line(event), None, parts, is_list, size, 1 + deepest)

    def _alias(self, event: NodeEvent) -> Node:
        name, line = event.anchor, _line(event)
        if name not in self._anchors:
            raise Mistake(line, f"nothing above is called &{name}")
        node = self._anchors[name]
        if node is None:
            raise Mistake(line, f"*{name} stands inside of what it names")
        self._brought += node.size
        if self._brought > MAX_BROUGHT:
            raise Mistake(line, f"the aliases up to here bring in more than {MAX_BROUGHT:,} values")
        return node

    def _items(self, depth: int) -> dict[str | int, Item]:
        parts: dict[str | int, Item] = {}
        while not isinstance(event := next(self._events), CollectionEndEvent):
            parts[len(parts)] = Item(self._value(event, depth), _line(event), _via(event))
        return parts

    def _mapping(self, depth: int) -> dict[str | int, Item]:
        own: dict[str | int, Item] = {}
        merged: dict[str | int, Item] | None = None
        while not isinstance(event := next(self._events), CollectionEndEvent):
            key, line = self._key(event), _line(event)
            if key in own or (merged is not None and _merges(event)):
                raise Mistake(line, f"{key}: this key was already given above; keep one")
            began = next(self._events)
            if _merges(event):
                merged = _merged(self._value(began, depth), _line(began), _via(began))
            else:
                own[key] = Item(self._value(began, depth), line, _via(began))
        return own | {key: entry for key, entry in (merged or {}).items() if key not in own}

    def _key(self, event: NodeEvent) -> str:
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            raise Mistake(_line(event), "a key is one word, not a list or a mapping; put quotes around { and [")
        node = self._value(event, 1) if isinstance(event, ScalarEvent) else self._alias(event)
        text = event.value if isinstance(event, ScalarEvent) else node.scalar
        if not isinstance(text, str):
            raise Mistake(_line(event), "this alias is no key: it names something else than text")
        return text


def _line(event: NodeEvent) -> int:
    return int(event.start_mark.line) + 1


def _via(event: NodeEvent) -> tuple[int, ...]:
    return (_line(event),) if isinstance(event, AliasEvent) else ()


def _merges(event: NodeEvent) -> bool:
    return isinstance(event, ScalarEvent) and event.value == MERGE and event.implicit[0] and event.tag is None


def _merged(node: Node, line: int, via: tuple[int, ...]) -> dict[str | int, Item]:
    """The entries of the mapping that a merge key names, or of a list of them, of which the first one counts."""
    sources = list((node.parts or {}).values()) if node.is_list else [Item(node, line)]
    parts: dict[str | int, Item] = {}
    for source in sources:
        if not source.node.is_mapping:
            raise Mistake(source.line, f"{MERGE}: takes a mapping, such as *name of one, or a list of mappings")
        for key, entry in (source.node.parts or {}).items():
            parts.setdefault(key, Item(entry.node, entry.line, (*via, *source.via, *entry.via)))
    return parts


def _require_tag(event: ScalarEvent | CollectionStartEvent, *names: str) -> None:
    if event.tag not in (None, "!", *(TAG + name for name in names)):
        raise Mistake(_line(event), f"the tag {str(event.tag).replace(TAG, '!!')} means nothing here; leave it out")


def _scalar(event: ScalarEvent) -> Any:
    _require_tag(event, "str", "int", "float", "bool", "null")
    text, line = event.value, _line(event)
    if re.search("[\0\ud800-\udfff]", text):
        raise Mistake(line, "a zero byte or half a character (\\uD800 to \\uDFFF) is in no name and in no path")
    if event.tag in ("!", f"{TAG}str") or not (event.implicit[0] or event.tag):
        return text
    for pattern, made in CORE:
        if re.fullmatch(pattern, text):
            if made is not float and len(text) > MAX_DIGITS:
                raise Mistake(line, f"a number of {len(text)} digits is beyond all that is counted here")
            return made(text)
    return text
