"""The artifact: exported, read back, and held to its network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from builder.build.entry import Entry
from builder.data.images import Tensors
from builder.data.recipe import PreprocessRecipe
from builder.errors import ExportError, ManifestError, VerificationError
from builder.exporters import alternatives
from builder.repository import layout
from builder.tasks import verify
from builder.types import Check, ExportRequest
from builder.util.reasons import place_of
from builder.util.usercode import border

if TYPE_CHECKING:
    import torch
from builder.build.reference import Reference, _pictures


def require_possible(entry: Entry) -> None:
    """Raise ExportError if this machine cannot build the entry's target."""
    refusal = entry.exporter.refusal(entry.target)
    if refusal:
        raise ExportError(
            f"{entry.name} cannot be built here as {entry.spec.format} in {entry.target}: {refusal}. "
            f"Possible here {alternatives(entry.target, entry.spec.format, here=True)}"
        )


def export_network(
    entry: Entry, module: torch.nn.Module, reference: Reference, folder: Path
) -> tuple[Path, dict[str, str]]:
    """The artifact's path, in the folder of the version to come, and its facts. Raises ExportError."""
    artifact = folder / layout.VERSION_FOLDER / entry.exporter.FILENAME
    artifact.parent.mkdir(parents=True)
    example = next(reference.images.batches(2))
    request = ExportRequest(module, example, artifact, entry.target, _calibration(entry, reference.recipe))
    try:
        with border(ExportError, f"{entry.name} cannot be exported to {entry.spec.format}"):
            return artifact, _exported(entry, request)
    except ManifestError as error:
        raise entry.manifest.error(str(error), "models", entry.name, "calibration") from None


def _exported(entry: Entry, request: ExportRequest) -> dict[str, str]:
    try:
        return entry.exporter.export(request)
    except ExportError as error:
        raise ExportError(f"{entry.name} cannot be exported to {entry.spec.format}: {error}") from None
    except OSError as error:
        if place_of(error):  # forward() looks for a file
            raise
        raise ExportError(f"{entry.name}: {request.path} cannot be written: {error}") from None


def _calibration(entry: Entry, recipe: PreprocessRecipe) -> Tensors | None:
    if entry.spec.precision != "int8" or entry.spec.calibration is None:
        return None
    return Tensors(_pictures(entry, "calibration", entry.spec.calibration), recipe)


def check_artifact(entry: Entry, artifact: Path, reference: Reference) -> Check:
    """Read the artifact back and compare. Raises VerificationError."""
    sizes = verify.batch_sizes(entry.spec.max_batch_size)
    what = f"{entry.name} as {entry.spec.format}"
    try:
        with border(VerificationError, f"{what} cannot be read back"):  # by a runtime, with errors of its own
            predict = entry.exporter.load(artifact, entry.checked_target)
    except ExportError as error:  # trtexec runs what it has built
        raise VerificationError(f"{what} cannot be read back: {error}") from None
    results = verify.outputs(verify.held(predict, reference.classes, what), reference.images, sizes)
    return verify.compare(reference.probabilities, results, sizes, reference.images, entry.spec.precision)


def artifact_bytes(artifact: Path) -> int:
    return sum(file.stat().st_size for file in artifact.parent.iterdir())
