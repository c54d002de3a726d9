"""Lays out the three Triton models of one served model, ready to be published."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import __version__
from builder.build.entry import Entry
from builder.data.images import SAMPLES, Picture
from builder.data.recipe import PreprocessRecipe
from builder.repository import layout, staging
from builder.steps import PREPROCESSORS
from builder.triton import model_config
from builder.triton.signature import IMAGE_INPUT, NETWORK_INPUT, NETWORK_OUTPUT, PROBABILITIES_OUTPUT, TensorSpec

if TYPE_CHECKING:
    import torch

PREPROCESSOR = "pillow"
# The step is shared, so its batches must be as large as those of any model that it may feed.
PREPROCESS_MAX_BATCH_SIZE = 1024
PIXELS_OUTPUT = "PIXELS"
WARMUP_PHOTO = SAMPLES / "chelsea.jpg"


@dataclass(frozen=True)
class Described:
    """What the configs say of a network beside what the manifest says."""

    image: torch.Tensor
    """float32 [C, H, W]: a real one, to warm up with."""
    classes: int
    labels: tuple[str, ...] | None
    provenance: dict[str, str]
    max_image_bytes: int
    """The recipe's."""
    built_from: dict[str, Any] = field(default_factory=dict)
    """For the lock."""


def stage_preprocess(
    folder: Path, recipe: PreprocessRecipe, pictures: Sequence[Picture], threads: int
) -> staging.StagedStep:
    """The recipe's step, named by all that it consists of, so that equal steps are one."""
    preprocessor = PREPROCESSORS[PREPROCESSOR]
    source = preprocessor.MODEL_FILE.read_bytes()
    photo = _warmup_photo(recipe, pictures)
    values: dict[str, Any] = {
        "max_batch_size": PREPROCESS_MAX_BATCH_SIZE,
        "input": TensorSpec(IMAGE_INPUT, "STRING", (1,)),
        "output": TensorSpec(PIXELS_OUTPUT, "FP32", recipe.shape),
        "queue": model_config.QueuePolicy(),
        "threads": threads,
        "warmup": "photo",
        "parameters": {
            layout.ROLE: "preprocess",
            "recipe": recipe.model_dump_json(),
            "threads": str(threads),
            "requirements": " ".join(f"{package}=={package_version(package)}" for package in preprocessor.PACKAGES),
            "builder": f"build-repo {__version__}",
        },
    }
    text = model_config.render("preprocess", name="preprocess", **values)
    name = f"preprocess_{hashlib.sha256(text.encode() + source + photo).hexdigest()[:8]}"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_bytes(source)
    (folder / layout.WARMUP_FOLDER).mkdir()
    # Triton's form of one string: its length in four bytes, then the string.
    (folder / layout.WARMUP_FOLDER / "photo").write_bytes(struct.pack("<I", len(photo)) + photo)
    (folder / layout.CONFIG).write_text(model_config.render("preprocess", name=name, **values), encoding="utf-8")
    return staging.StagedStep(name, folder)


def _warmup_photo(recipe: PreprocessRecipe, pictures: Sequence[Picture]) -> bytes:
    """An encoded image that the recipe accepts; the same one wherever it can be, so that steps are shared."""
    served = PREPROCESSORS[PREPROCESSOR].function(recipe)
    try:
        served(WARMUP_PHOTO.read_bytes())
    except ValueError:  # larger than the recipe's limits; the evaluation images were accepted
        return pictures[0].read()
    return WARMUP_PHOTO.read_bytes()


def stage_network(entry: Entry, folder: Path, described: Described) -> staging.StagedNetwork:
    """`folder` holds the artifact already."""
    pixels = described.image.numpy().tobytes()
    warmup = f"photo-{hashlib.sha256(pixels).hexdigest()[:8]}"
    (folder / layout.WARMUP_FOLDER).mkdir()
    (folder / layout.WARMUP_FOLDER / warmup).write_bytes(pixels)
    _write_labels(folder, described.labels)
    filename, by_capability = _artifact_names(entry, folder / layout.VERSION_FOLDER, described.provenance)

    def render(name: str, version: int) -> str:
        return model_config.render(
            "network",
            name=name,
            backend=entry.exporter.BACKEND,
            platform=entry.exporter.PLATFORM,
            filename=filename,
            by_capability=by_capability,
            max_batch_size=entry.spec.max_batch_size,
            input=TensorSpec(NETWORK_INPUT, "FP32", tuple(described.image.shape)),
            output=TensorSpec(NETWORK_OUTPUT, "FP32", (described.classes,)),
            labels=described.labels and f"{version}/labels.txt",
            versions=(version,),
            device=entry.spec.device,
            instances=entry.spec.instances,
            queue=model_config.QueuePolicy(),
            warmup=warmup,
            warmup_batches=sorted({1, entry.spec.max_batch_size}),
            parameters=described.provenance | {layout.ROLE: "network"} | entry.exporter.parameters(entry.target),
        )

    return staging.StagedNetwork(entry.network_model, folder, render)


def _artifact_names(entry: Entry, version: Path, facts: dict[str, str]) -> tuple[str, dict[str, str]]:
    """The default file of the version, and those of single compute capabilities.

    A plan runs on one capability alone. Triton would try the default file on all others, so that is
    the name of no file: their server then says that it cannot be found, and nothing is served wrongly.
    """
    if not entry.exporter.PER_GPU:
        return entry.exporter.FILENAME, {}
    capability = facts["compute_capability"]
    filename = layout.plan_filename(capability)
    (version / entry.exporter.FILENAME).rename(version / filename)
    return layout.NO_PLAN, {capability: filename}


def stage_ensemble(entry: Entry, folder: Path, preprocess: str, described: Described) -> staging.StagedEnsemble:
    (folder / layout.VERSION_FOLDER).mkdir(parents=True)
    _write_labels(folder, described.labels)

    def render(network: str, version: int) -> str:
        return model_config.render(
            "ensemble",
            name=entry.name,
            max_batch_size=entry.spec.max_batch_size,
            input=TensorSpec(IMAGE_INPUT, "STRING", (1,)),
            output=TensorSpec(PROBABILITIES_OUTPUT, "FP32", (described.classes,)),
            labels=described.labels and f"{version}/labels.txt",
            version=version,
            preprocess={"model": preprocess, "version": 1, "input": IMAGE_INPUT, "output": PIXELS_OUTPUT},
            network={"model": network, "version": version, "input": NETWORK_INPUT, "output": NETWORK_OUTPUT},
            parameters=described.provenance
            | {layout.ROLE: "ensemble", layout.MAX_IMAGE_BYTES: str(described.max_image_bytes)},
        )

    return staging.StagedEnsemble(entry.name, folder, render, described.built_from)


def _write_labels(folder: Path, labels: tuple[str, ...] | None) -> None:
    if labels is not None:
        text = "".join(f"{label}\n" for label in labels)
        (folder / layout.VERSION_FOLDER / "labels.txt").write_text(text, encoding="utf-8")
