"""What a published version records of how it was built."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from builder import __version__
from builder.build.entry import Entry
from builder.build.portable import portable
from builder.build.reference import Reference
from builder.data.recipe import PreprocessRecipe
from builder.types import Check
from builder.util.hashing import sha256


def build_facts(entry: Entry, artifact: Path, reference: Reference, check: Check) -> dict[str, str]:
    """What the published config records of the build, beside the network's own provenance."""
    versions = {f"{name}_version": package_version(name) for name in entry.exporter.VERSIONED}
    return (
        versions
        | {
            "builder": f"build-repo {__version__}",
            "built_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "format": entry.spec.format,
            "precision": entry.spec.precision,
            "trained": "true" if reference.trained else "false",
            "artifact_sha256": _digest(artifact),
        }
        | _figures(check)
    )


def _digest(artifact: Path) -> str:
    """SHA-256 of the file; of the list of files and theirs where the weights are in one of their own."""
    digests = {file.name: sha256(file) for file in sorted(artifact.parent.iterdir())}
    if len(digests) == 1:
        return digests[artifact.name]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()).hexdigest()


def _figures(check: Check) -> dict[str, str]:
    """What verification found, for whoever reads the config."""
    accuracy = {"network_accuracy": check.network_accuracy, "artifact_accuracy": check.artifact_accuracy}
    return {
        "evaluation_images": str(check.images),
        "max_abs_error": f"{check.max_abs_error:.3e}",
        "mean_abs_error": f"{check.mean_abs_error:.3e}",
        "noise": f"{check.noise:.3e}",
        "top1_agreement": f"{check.top1_agreement:.4f}",
        "top5_agreement": f"{check.top5_agreement:.4f}",
    } | {key: f"{value:.4f}" for key, value in accuracy.items() if value is not None}


def built_from(entry: Entry, recipe: PreprocessRecipe, facts: dict[str, str]) -> dict[str, Any]:
    """For the lock: the entry as it was understood, and what the config records too."""
    said = portable(entry).model_dump(mode="json", exclude_none=True)
    if not isinstance(entry.spec.labels, str):
        said.pop("labels", None)  # they are a file of the version
    resolved = {
        "preprocess": recipe.model_dump(mode="json"),
        "tolerance": entry.limits.model_dump(mode="json", exclude_none=True),
        "threads": entry.target.threads,
    }
    return {"entry": said | resolved, "facts": facts}
