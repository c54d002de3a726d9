"""Which models of a laid out repository a server loads: all but those of ours that nothing asks any more.

A network's former form, and a step of a former recipe, stay in the repository to go back to. By the configs' text
alone, as build-repo writes them: the first process of a container uses this, too, and has nothing that parses them.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

CONFIG = "config.pbtxt"
ROLE = re.compile(r"""key:\s*["']role["']\s*,?\s*value:?\s*\{\s*string_value:\s*["'](\w+)["']""")
ASKED = re.compile(r"""\bmodel_name:\s*["']([^"']+)["']""")
PARTS = frozenset({"network", "preprocess", "postprocess"})
"""Roles of what is loaded for the models that ask it alone; as in builder/repository/layout.py."""


def wanted(models: Path) -> list[str]:
    """Their names."""
    texts = _texts(models)
    asked = {name for text in texts.values() for name in ASKED.findall(text)}
    return [name for name, text in texts.items() if name in asked or not _is_part(text)]


def _texts(models: Path) -> dict[str, str]:
    """Of each model's config."""
    found = {}
    for path in sorted(models.glob(f"*/{CONFIG}")):
        with suppress(OSError):
            found[path.parent.name] = path.read_text(encoding="utf-8", errors="replace")
    return found


def _is_part(text: str) -> bool:
    role = ROLE.search(text)
    return role is not None and role[1] in PARTS
