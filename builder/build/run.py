"""The story: a manifest's entries become verified, configured, published models."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from builder import networks
from builder.build.artifact import (
    artifact_bytes,
    export_network,
    read_back,
    renamed,
    require_possible,
    signature_of,
)
from builder.build.entry import Entry, resolve
from builder.build.golden import golden_set
from builder.build.inputs import Inputs, Reading, remembered, watching, with_commit, with_opened
from builder.build.loadable import require_loadable
from builder.build.outcome import Failure, Outcome
from builder.build.provenance import build_facts, built_from
from builder.build.reference import study
from builder.build.stage import Described, as_served, stage_ensemble, stage_network
from builder.errors import BuilderError
from builder.machine.memory import return_memory
from builder.repository import golden, layout
from builder.repository.golden import GoldenSet
from builder.repository.names import refuse_others
from builder.repository.publish import Published, publish
from builder.repository.staging import staging
from builder.tasks.task import Pipeline, Reference
from builder.types import BuiltModel, Report, Verification
from builder.util.usercode import undone

__all__ = ["Entry", "Failure", "Outcome", "Reference", "attempt", "build_model", "build_repository", "resolve"]


def build_repository(entries: Sequence[Entry], repository: Path, report: Report = lambda _: None) -> Outcome:
    """Build each entry; one that fails leaves the others and what is already served alone."""
    outcome = Outcome()
    for item in entries:
        outcome.add(item.name, attempt(item, repository, report))
        return_memory()
    return outcome


def attempt(entry: Entry, repository: Path, report: Report = lambda _: None) -> BuiltModel | BuilderError:
    """What building the entry ends with; the report's lines begin with its name."""
    repository = repository.absolute()  # one's own code may change the working folder
    try:
        with undone():
            return build_model(entry, repository, lambda step: report(f"{entry.name}: {step}"))
    except BuilderError as error:
        return error


def build_model(entry: Entry, repository: Path, report: Report = lambda _: None) -> BuiltModel:
    """Network -> artifact -> verified -> configured -> published. Raises BuilderError; then nothing changed."""
    started = time.perf_counter()
    require_possible(entry)
    with staging(repository) as folder, watching(entry, repository) as opened:
        # Before it is read: what changes while it is built counts as changed for the next.
        digests = remembered(repository)
        inputs = entry.inputs or Reading(digests).of(entry)
        # Asked again when it is published; here, so that nothing is computed in vain.
        refuse_others(repository, entry.name, _roles(entry))
        module, reference = study(entry, report)
        report(f"exporting to {entry.spec.format}")
        artifact, facts = export_network(entry, module, reference, folder / "network")
        # The artifact is loaded beside nothing else: the largest network decides the peak of memory.
        del module
        return_memory()
        report("verifying")
        verification, goldens = _verified(entry, artifact, reference)
        report("publishing")
        size = artifact_bytes(artifact)
        facts = reference.provenance | build_facts(entry, artifact, reference, verification) | facts
        inputs = with_opened(with_commit(inputs, facts.get("snapshot_commit")), opened, digests)
        described = _described(entry, reference, facts, inputs, folder)
        digests.save()
        published = _publish(entry, repository, folder, described, goldens)
    return BuiltModel(
        name=entry.name,
        version=published.version,
        network_model=published.network,
        preprocess_model=next((step.name for step in described.steps if step.role == layout.PREPROCESS), None),
        format=entry.spec.format,
        precision=entry.spec.precision,
        trained=reference.trained,
        classes=_classes(described.pipeline),
        artifact_bytes=size,
        seconds=time.perf_counter() - started,
        verification=verification,
        notes=networks.weights.notes(reference.provenance),
        warnings=reference.warnings,
    )


def _verified(entry: Entry, artifact: Path, reference: Reference) -> tuple[Verification, GoldenSet]:
    """What it differs by, within the limits, and what servers are to answer. Raises VerificationError."""
    predict = read_back(entry, artifact, reference)
    verification = entry.task.verify(entry, reference, predict)
    entry.task.hold(entry, reference, verification, _held(entry))
    return verification, golden_set(entry, reference, predict)


def _roles(entry: Entry) -> dict[str, str]:
    """By name, what is to be published."""
    roles = (layout.MODEL,) if len(entry.published_names) == 1 else (layout.ENSEMBLE, layout.NETWORK)
    return dict(zip(entry.published_names, roles, strict=True))


def _held(entry: Entry) -> str:
    """What is held to its network: of a file of the user's, to what."""
    what = f"{entry.name} as {entry.spec.format}"
    if not entry.artifact:
        return what
    return f"{what} ({entry.artifact.path.name}, held to {entry.spec.reference or 'itself'})"


def _described(entry: Entry, reference: Reference, facts: dict[str, str], inputs: Inputs, folder: Path) -> Described:
    """What stands around the network, with its steps staged in the folder."""
    pipeline = entry.task.pipeline(entry, reference, folder / "steps")
    signature = signature_of(entry, reference)
    sample = renamed(next(iter(reference.samples.batches(1))), reference.signature, signature)
    origin = built_from(entry, facts, pipeline.built_from, inputs)
    return Described(as_served(entry, reference, pipeline), signature, sample, facts, origin)


def _publish(entry: Entry, repository: Path, folder: Path, described: Described, goldens: GoldenSet) -> Published:
    network = stage_network(entry, folder / "network", described)
    ensemble = None if described.is_alone else stage_ensemble(entry, folder / "ensemble", described)
    golden.write((ensemble or network).folder / layout.VERSION_FOLDER, goldens)
    require_loadable(folder / "repository", described.steps, network, ensemble, described.facts)
    return publish(repository, described.steps, network, ensemble)


def _classes(pipeline: Pipeline) -> int | None:
    """How many classes the answers have, where they are labelled or could be."""
    labelled = [tensor.shape[0] for tensor in pipeline.signature.outputs if tensor.name in pipeline.labelled]
    return labelled[0] if labelled else None
