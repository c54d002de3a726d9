"""The artifact: exported, read back, and held to its network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.build import adopted
from builder.build.entry import Entry
from builder.errors import ExportError, VerificationError, full_or
from builder.exporters import alternatives
from builder.repository import layout
from builder.tasks.task import Reference
from builder.triton.signature import Signature
from builder.types import AdoptRequest, Calibration, ExportRequest, Predict, Target, Tensors, Verification
from builder.util.reasons import place_of
from builder.util.usercode import border

if TYPE_CHECKING:
    import torch


def require_possible(entry: Entry) -> None:
    """Raise ExportError if this machine cannot build the entry's target."""
    spec, target = entry.spec, entry.target
    refusal = adopted.refusal(spec.format, target) if entry.is_adopted else entry.exporter.refusal(target)
    if refusal:
        raise ExportError(
            f"{entry.name} cannot be built here as {entry.spec.format} in {entry.target}: {refusal}. "
            f"Possible here {alternatives(entry.target, entry.spec.format, here=True)}"
        )


def signature_of(entry: Entry, reference: Reference) -> Signature:
    """The artifact's own: by position, where its format has no names."""
    own = reference.signature
    return own if entry.exporter.NAMES_TENSORS else own.by_position()


def export_network(
    entry: Entry, module: torch.nn.Module, reference: Reference, folder: Path
) -> tuple[Path, dict[str, str]]:
    """The artifact's path, in the folder of the version to come, and its facts. Raises ExportError."""
    artifact = folder / layout.VERSION_FOLDER / entry.exporter.FILENAME
    artifact.parent.mkdir(parents=True)
    if entry.is_adopted:
        return artifact, adopted.adopt(entry.name, entry.spec.format, _adoption(entry, reference, artifact))
    with entry.at("calibration"), border(ExportError, f"{entry.name} cannot be exported to {entry.spec.format}"):
        return artifact, _exported(entry, _request(entry, module, reference, artifact))


def _adoption(entry: Entry, reference: Reference, path: Path) -> AdoptRequest:
    source = entry.artifact
    assert source  # or it would be exported
    return AdoptRequest(
        source.path,
        source.interface,
        path,
        entry.target,
        activation=getattr(entry.spec, "activation", "none"),
        is_widened=reference.is_widened,
        calibration=_calibration(entry, reference),
        outputs=reference.signature.outputs,
    )


def _calibration(entry: Entry, reference: Reference) -> Calibration | None:
    with entry.at("calibration"):
        return entry.task.calibration(entry, reference) if entry.needs_calibration else None


def _request(entry: Entry, module: torch.nn.Module, reference: Reference, artifact: Path) -> ExportRequest:
    signature = signature_of(entry, reference)
    examples = next(iter(reference.samples.batches(2 if signature.batched else 1)))
    calibration = _calibration(entry, reference)
    named = renamed(examples, reference.signature, signature)
    by_name = calibration and Renamed(calibration, reference.signature, signature)
    largest = {
        theirs.name: reference.largest[ours.name]
        for ours, theirs in zip(reference.signature.inputs, signature.inputs, strict=True)
        if ours.name in reference.largest
    }
    return ExportRequest(module, signature, named, artifact, entry.target, by_name, largest)


@dataclass(frozen=True)
class Renamed:
    """A calibration under the artifact's names."""

    samples: Calibration
    own: Signature
    artifacts: Signature

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Tensors]:
        return (renamed(sample, self.own, self.artifacts) for sample in self.samples)


def renamed(tensors: Tensors, own: Signature, other: Signature) -> Tensors:
    """Inputs under the names of another signature with the same order."""
    return {theirs.name: tensors[ours.name] for ours, theirs in zip(own.inputs, other.inputs, strict=True)}


def _exported(entry: Entry, request: ExportRequest) -> dict[str, str]:
    try:
        return entry.exporter.export(request)
    except ExportError as error:
        raise ExportError(f"{entry.name} cannot be exported to {entry.spec.format}: {error}") from None
    except OSError as error:
        if place_of(error):  # forward() looks for a file
            raise
        raise full_or(ExportError, error)(f"{entry.name}: {request.path} cannot be written: {error}") from None


def verify_artifact(entry: Entry, artifact: Path, reference: Reference) -> Verification:
    """Read the artifact back and compare. Raises VerificationError."""
    return entry.task.verify(entry, reference, read_back(entry, artifact, reference))


def read_back(entry: Entry, artifact: Path, reference: Reference) -> Predict:
    """The artifact as verification runs it. Raises VerificationError."""
    what = f"{entry.name} as {entry.spec.format}"
    try:
        with border(VerificationError, f"{what} cannot be read back"):  # by a runtime, with errors of its own
            return loaded(entry, artifact, reference, entry.checked_target)
    except ExportError as error:  # trtexec runs what it has built
        raise VerificationError(f"{what} cannot be read back: {error}") from None


def loaded(entry: Entry, artifact: Path, reference: Reference, target: Target) -> Predict:
    """The artifact, read back, under the network's own names of its tensors."""
    signature = signature_of(entry, reference)
    return _under_own_names(entry.exporter.load(artifact, target, signature), reference.signature, signature)


def _under_own_names(predict: Predict, own: Signature, artifacts: Signature) -> Predict:
    def run(tensors: Tensors) -> dict[str, torch.Tensor]:
        found = predict(renamed(tensors, own, artifacts))
        return {ours.name: found[theirs.name] for ours, theirs in zip(own.outputs, artifacts.outputs, strict=True)}

    return predict if own == artifacts else run


def artifact_bytes(artifact: Path) -> int:
    return sum(file.stat().st_size for file in artifact.parent.iterdir())
