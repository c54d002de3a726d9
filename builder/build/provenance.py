"""What a published version records of how it was built."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from builder import __version__
from builder.build.entry import Entry
from builder.build.portable import portable
from builder.tasks.task import Reference
from builder.types import Verification
from builder.util import hashing


def build_facts(entry: Entry, artifact: Path, reference: Reference, verification: Verification) -> dict[str, str]:
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
        | figures(verification)
    )


def _digest(artifact: Path) -> str:
    """SHA-256 of the file; of the list of files and theirs where the weights are in one of their own."""
    digests = hashing.digests(artifact.parent)
    if len(digests) == 1:
        return digests[artifact.name]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()).hexdigest()


def figures(verification: Verification) -> dict[str, str]:
    """What verification found, for whoever reads the config: errors by magnitude, shares as shares."""
    found = {name: _figure(name, value) for name, value in verification.figures().items()}
    return {"evaluation_images": str(verification.samples)} | found


def _figure(name: str, value: float) -> str:
    if name.endswith(("_agreement", "_accuracy")):
        return f"{value:.4f}"
    return f"{value:.3e}" if name.endswith(("_error", "noise", "mismatches")) else f"{value:.6g}"


def built_from(
    entry: Entry, facts: Mapping[str, str], task: Mapping[str, Any], inputs: Mapping[str, Any]
) -> dict[str, Any]:
    """For the lock: the entry as it was understood, with what the task adds; what the config records, too; what was
    read, which tells whether another build would be the same.
    """
    said = portable(entry).model_dump(mode="json", exclude_none=True)
    if not isinstance(said.get("labels"), str):
        said.pop("labels", None)  # they are a file of the version
    resolved: dict[str, Any] = {"threads": entry.target.threads}
    return {"entry": said | resolved | dict(task), "facts": dict(facts), "inputs": dict(inputs)}
