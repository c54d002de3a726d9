"""What editors are told of the files that users write: pydantic's JSON Schema, and what the loader checks beyond it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from builder.schemas import models, training

SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {"models": models.schema, "training": training.schema}
