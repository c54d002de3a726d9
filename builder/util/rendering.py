"""Jinja as all templates here have it: a value that is missing is an error, and nothing is escaped unasked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2


def environment(
    templates: Path, filters: Mapping[str, Callable[..., Any]], *, lstrip_blocks: bool = False
) -> jinja2.Environment:
    """For the templates of a folder. Each kind of file quotes its values by a filter of its own."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=lstrip_blocks,
        keep_trailing_newline=True,
        autoescape=False,
    )
    made.filters.update(filters)
    return made
