"""Names and places in a model repository of ours."""

from __future__ import annotations

from pathlib import Path

from builder.errors import ConfigError
from builder.triton import model_config

CONFIG = model_config.FILENAME
VERSION_FOLDER = "version"
WARMUP_FOLDER = "warmup"
LABELS = "labels.txt"
NO_PLAN = "no-plan-for-this-gpu.plan"
"""Triton's default file name on GPUs that have no plan; it is never there."""

ROLE = "role"
"""Config parameter that every model built by this tool carries: what it is of a pipeline."""
ENSEMBLE, NETWORK, PREPROCESS, POSTPROCESS = "ensemble", "network", "preprocess", "postprocess"
MODEL = "model"
"""A network that is served by itself, under the entry's own name."""
SERVED_ROLES = frozenset({ENSEMBLE, MODEL})
"""Of what clients ask. One entry's name may go from one to the other."""
STEP_ROLES = frozenset({PREPROCESS, POSTPROCESS})
"""Of what is named by its content, and shared by all models that ask it."""
PARTS = frozenset({NETWORK, *STEP_ROLES})
"""Of what only ensembles ask."""

TASK = "task"
"""Of what clients ask: what it is for."""
ACTIVATION = "activation"
"""Of a classifier: what makes probabilities of its scores."""
MAX_IMAGE_BYTES = "max_image_bytes"
"""Of an ensemble, the recipe's: so that clients send nothing that would be refused."""
MAX_TEXT_BYTES = "max_text_bytes"
"""Of an ensemble that takes texts, in UTF-8: what is larger is refused."""
CLASS_NAMES = "labels"
"""Of an ensemble whose answers are numbers of classes: their names, a JSON list. A classifier's are Triton's own."""
ENCODE = "encode"
"""Of a segmenter: png where its masks are files, none where they are tensors."""
UNSAID = {TASK: "classification", ACTIVATION: "softmax"}
"""What configs mean that do not say it, since they were published before there was anything else."""


def plan_filename(compute_capability: str) -> str:
    return f"model-{compute_capability}.plan"


def role_of(model: Path) -> str:
    """What a folder's model is of a pipeline; nothing for a folder that build-repo did not make.

    Of one whose config was overwritten with what is none, the copies in its versions tell.
    """
    try:
        return _role(model)
    except OSError:
        return ""
    except ConfigError:
        return next(filter(None, map(_role_or_none, sorted(model.glob(f"[0-9]*/{CONFIG}")))), "")


def _role(folder: Path) -> str:
    """Raises OSError, ConfigError."""
    found = model_config.read(folder / CONFIG)
    if not found.ListFields():
        raise ConfigError(f"{folder / CONFIG} says nothing")
    return str(found.parameters[ROLE].string_value)


def _role_or_none(copy: Path) -> str:
    try:
        return _role(copy.parent)
    except (OSError, ConfigError):
        return ""


def same_kind(role: str, other: str) -> bool:
    """Whether a model of one role may take the place of one of the other, under the same name."""
    return role == other or {role, other} <= SERVED_ROLES
