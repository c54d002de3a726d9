"""A step laid out as a Triton model, named by all that it consists of, so that equal steps are one."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from builder import __version__
from builder.repository import layout
from builder.repository.staging import StagedStep
from builder.steps import Step
from builder.triton import model_config
from builder.triton.signature import IMAGE_INPUT, TEXT_INPUT, Signature, TensorSpec, raw_bytes
from builder.triton.warmup import WarmUp, WarmUpInput

if TYPE_CHECKING:
    import torch

# A step is shared, so its batches must be as large as those of any model that it may feed.
MAX_BATCH_SIZE = 1024
WARMUP = WARMUP_FILE = "photo"
TEXT_WARMUP = "text"


def stage_step(
    folder: Path,
    step: Step,
    settings: BaseModel,
    warmup: bytes | Mapping[str, bytes | torch.Tensor],
    threads: int,
    files: Mapping[str, Path] | None = None,
) -> StagedStep:
    """The step with these settings. `warmup` is one element of each of its inputs, or of its only one.

    `threads` is how many it works on at the same time. `files` are published beside its model.py, by name.
    """
    source = step.MODEL_FILE.read_bytes()
    inputs = step.signature(settings).inputs
    given = warmup if isinstance(warmup, Mapping) else {inputs[0].name: warmup}
    contents = {tensor.name: _content(given[tensor.name]) for tensor in inputs}
    values = _values(step, settings, given, threads)
    text = model_config.render("step", name=step.ROLE, **values)
    beside = {name: path.read_bytes() for name, path in sorted((files or {}).items())}
    parts = (text.encode(), source, *contents.values(), *beside.values())
    name = f"{step.ROLE}_{hashlib.sha256(b''.join(parts)).hexdigest()[:8]}"
    (folder / "1").mkdir(parents=True)
    for file, content in {"model.py": source, **beside}.items():
        (folder / "1" / file).write_bytes(content)
    (folder / layout.WARMUP_FOLDER).mkdir()
    for tensor in inputs:
        (folder / layout.WARMUP_FOLDER / _file(tensor)).write_bytes(contents[tensor.name])
    (folder / layout.CONFIG).write_text(model_config.render("step", name=name, **values), encoding="utf-8")
    return StagedStep(name, folder, step.ROLE)


def _content(value: bytes | torch.Tensor) -> bytes:
    """Triton's form of one string is its length in four bytes, then the string; of a tensor, its numbers."""
    return struct.pack("<I", len(value)) + value if isinstance(value, bytes) else raw_bytes(value)


def _file(tensor: TensorSpec) -> str:
    return WARMUP_FILE if tensor.name == IMAGE_INPUT else tensor.name.lower()


def _values(step: Step, settings: BaseModel, given: Mapping[str, bytes | torch.Tensor], threads: int) -> dict[str, Any]:
    signature = step.signature(settings)
    return {
        "max_batch_size": MAX_BATCH_SIZE,
        "inputs": signature.inputs,
        "outputs": signature.outputs,
        "labels": {},
        "queue": model_config.QueuePolicy(),
        "warmups": [
            WarmUp(_warmup_name(signature), tuple(_warmup(tensor, given) for tensor in signature.inputs), threads)
        ],
        "parameters": _parameters(step, settings, threads),
    }


def _warmup_name(signature: Signature) -> str:
    return TEXT_WARMUP if any(tensor.name == TEXT_INPUT for tensor in signature.inputs) else WARMUP


def _warmup(tensor: TensorSpec, given: Mapping[str, bytes | torch.Tensor]) -> WarmUpInput:
    value = given[tensor.name]
    shape = tensor.shape if isinstance(value, bytes) else tuple(value.shape)
    return WarmUpInput(tensor.name, tensor.data_type, shape, _file(tensor))


def _parameters(step: Step, settings: BaseModel, threads: int) -> Mapping[str, str]:
    return {
        layout.ROLE: step.ROLE,
        "recipe": settings.model_dump_json(),
        "threads": str(threads),
        "requirements": " ".join(f"{package}=={package_version(package)}" for package in step.PACKAGES),
        "builder": f"build-repo {__version__}",
    }
