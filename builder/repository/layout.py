"""Names and places in a model repository of ours."""

from __future__ import annotations

from pathlib import Path

from builder.errors import ConfigError
from builder.repository import layout
from builder.triton import model_config

VERSION_FOLDER = "version"
WARMUP_FOLDER = "warmup"
CONFIG = "config.pbtxt"
NO_PLAN = "no-plan-for-this-gpu.plan"
"""Triton's default file name on GPUs that have no plan; it is never there."""
ROLE = "role"
"""Config parameter that every model built by this tool carries: ensemble, network or preprocess."""
MAX_IMAGE_BYTES = "max_image_bytes"
"""Of an ensemble, the recipe's: so that clients send nothing that would be refused."""


def plan_filename(compute_capability: str) -> str:
    return f"model-{compute_capability}.plan"


def role_of(model: Path) -> str:
    """ensemble, network or preprocess; nothing for a folder that build-repo did not make."""
    try:
        return str(model_config.read(model / layout.CONFIG).parameters[layout.ROLE].string_value)
    except (OSError, ConfigError):
        return ""
