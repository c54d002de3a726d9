"""A step laid out as a Triton model, named by all that it consists of, so that equal steps are one."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from builder import __version__
from builder.repository import layout
from builder.repository.staging import StagedStep
from builder.steps import Step
from builder.triton import model_config
from builder.triton.signature import Signature
from builder.triton.warmup import WarmUp, WarmUpInput

# A step is shared, so its batches must be as large as those of any model that it may feed.
MAX_BATCH_SIZE = 1024
WARMUP_FILE = "photo"


def stage_step(folder: Path, step: Step, settings: BaseModel, warmup: bytes, threads: int) -> StagedStep:
    """The step with these settings. `warmup` is one element of its first input, which is STRING.

    `threads` is how many it works on at the same time.
    """
    source = step.MODEL_FILE.read_bytes()
    values = _values(step, settings, threads)
    text = model_config.render("step", name=step.ROLE, **values)
    name = f"{step.ROLE}_{hashlib.sha256(text.encode() + source + warmup).hexdigest()[:8]}"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_bytes(source)
    (folder / layout.WARMUP_FOLDER).mkdir()
    # Triton's form of one string: its length in four bytes, then the string.
    (folder / layout.WARMUP_FOLDER / WARMUP_FILE).write_bytes(struct.pack("<I", len(warmup)) + warmup)
    (folder / layout.CONFIG).write_text(model_config.render("step", name=name, **values), encoding="utf-8")
    return StagedStep(name, folder, step.ROLE)


def _values(step: Step, settings: BaseModel, threads: int) -> dict[str, Any]:
    signature = step.signature(settings)
    return {
        "max_batch_size": MAX_BATCH_SIZE,
        "inputs": signature.inputs,
        "outputs": signature.outputs,
        "labels": {},
        "queue": model_config.QueuePolicy(),
        "warmups": [WarmUp(WARMUP_FILE, (_warmup(signature),), threads)],
        "parameters": _parameters(step, settings, threads),
    }


def _warmup(signature: Signature) -> WarmUpInput:
    first = signature.inputs[0]
    return WarmUpInput(first.name, first.data_type, first.shape, WARMUP_FILE)


def _parameters(step: Step, settings: BaseModel, threads: int) -> Mapping[str, str]:
    return {
        layout.ROLE: step.ROLE,
        "recipe": settings.model_dump_json(),
        "threads": str(threads),
        "requirements": " ".join(f"{package}=={package_version(package)}" for package in step.PACKAGES),
        "builder": f"build-repo {__version__}",
    }
