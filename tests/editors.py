"""What an editor's YAML server makes of a file: YAML 1.2, held to the JSON Schema."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
KINDS = {"models": "models", "training": "network"}
"""The schemas, and the key that no file of that kind is without."""


@cache
def schema(kind: str) -> dict[str, Any]:
    """As it is shipped."""
    found: dict[str, Any] = json.loads((ROOT / "builder" / f"{kind}.schema.json").read_text(encoding="utf-8"))
    return found


@cache
def validator(kind: str) -> Validator:
    made = validator_for(schema(kind))
    made.check_schema(schema(kind))
    return made(schema(kind))


def parsed(text: str) -> Any:
    """Raises YAMLError, as an editor underlines what is no YAML."""
    return YAML(typ="safe", pure=True).load(text)


def complaints(kind: str, tree: Any) -> list[str]:
    """What the schema finds wrong."""
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in validator(kind).iter_errors(tree)
    ]


def kind_of(tree: Any) -> str | None:
    """Which of our files it is, if it is one."""
    return next((kind for kind, key in KINDS.items() if isinstance(tree, dict) and key in tree), None)
