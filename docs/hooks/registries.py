"""All that the reference takes from the code, in one place. Only `networks` imports torch."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

LINE = re.compile(r"(\w+) +(\d+) +(.+)$")
"""Of the tree in the docstring of a module of errors: class, exit code, meaning."""


def schemas() -> Mapping[str, dict[str, Any]]:
    """The JSON Schemas of the files that users write, by kind."""
    from builder.schemas import SCHEMAS

    return {kind: make() for kind, make in SCHEMAS.items()}


def programs() -> Mapping[str, Any]:
    """click's commands, by the program's name."""
    from typer.main import get_command

    from builder.cli import app as builder
    from client.cli import app as client

    return {command.name or "": command for command in (get_command(builder), get_command(client))}


def exit_codes() -> Mapping[str, list[tuple[int, str, str]]]:
    """Code, class and meaning of every error, by the program that ends with it."""
    from builder import errors as builder
    from client import errors as client

    return {
        "build-repo": of_tree(builder, builder.BuilderError),
        "repo-client": of_tree(client, client.ClientError),
    }


def of_tree(module: ModuleType, root: type[Exception]) -> list[tuple[int, str, str]]:
    """Raises ValueError where the tree that is drawn is not the tree that is there."""
    drawn = {name: (int(code), meaning) for name, code, meaning in map(_parts, _drawn(module))}
    found = {error.__name__: error.exit_code for error in _below(root) if error is not root}  # type: ignore[attr-defined]
    told = {name: code for name, (code, _) in drawn.items()}
    if told != found:
        raise ValueError(f"{module.__name__} draws {sorted(told.items())}, and has {sorted(found.items())}")
    return sorted((code, name, meaning) for name, (code, meaning) in drawn.items())


def _drawn(module: ModuleType) -> Iterator[re.Match[str]]:
    return filter(None, map(LINE.search, (inspect.getdoc(module) or "").splitlines()))


def _parts(line: re.Match[str]) -> tuple[str, str, str]:
    name, code, meaning = line.groups()
    return name, code, meaning


def _below(root: type[Exception]) -> Iterator[type[Exception]]:
    yield root
    for child in root.__subclasses__():
        yield from _below(child)


def exporters() -> Mapping[str, Any]:
    from builder.exporters import EXPORTERS

    return EXPORTERS


def limits() -> Mapping[str, dict[str, float]]:
    """What the proof allows, by precision."""
    from builder.tasks.classification.comparison import LIMITS

    return {precision: tolerance.model_dump(exclude_none=True) for precision, tolerance in LIMITS.items()}


def codes() -> list[Any]:
    """Every rule of `build-repo check`, by its code."""
    from builder.check.rules import table

    return [rule for _, rule in sorted(table().items())]


def label_sets() -> Mapping[str, Callable[[], tuple[str, ...]]]:
    from builder.data.labels import SETS

    return SETS


def data_sets() -> list[str]:
    from builder.training.datasets import own_names

    return own_names()


def networks() -> list[dict[str, Any]]:
    """What is known of each network that can be named. This one imports torch."""
    from dataclasses import asdict

    from builder.networks import NETWORKS

    return [asdict(family.facts(name)) for family in NETWORKS.values() for name in family.names()]
