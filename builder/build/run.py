"""The story: a manifest's entries become verified, configured, published models."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from builder import networks
from builder.build import stage
from builder.build.artifact import artifact_bytes, check_artifact, export_network, require_possible
from builder.build.entry import Entry, resolve
from builder.build.provenance import build_facts, built_from
from builder.build.reference import Reference, study
from builder.errors import BuilderError
from builder.machine.memory import return_memory
from builder.repository import publish, staging
from builder.tasks import verify
from builder.types import BuiltModel, Report
from builder.util.usercode import undone

__all__ = ["Entry", "Failure", "Outcome", "Reference", "attempt", "build_model", "build_repository", "resolve"]


@dataclass(frozen=True)
class Failure:
    name: str
    error: BuilderError


@dataclass
class Outcome:
    built: list[BuiltModel] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)

    def add(self, name: str, result: BuiltModel | BuilderError) -> None:
        if isinstance(result, BuiltModel):
            self.built.append(result)
        else:
            self.failed.append(Failure(name, result))


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
    """Network -> artifact -> checked -> configured -> published. Raises BuilderError; then nothing changed."""
    started = time.perf_counter()
    require_possible(entry)
    with staging.staging(repository) as staged:
        # Asked again when it is published; here, so that nothing is computed in vain.
        publish.refuse_others(repository, entry.name, {"network": entry.network_model})
        module, reference = study(entry, report)
        report(f"exporting to {entry.spec.format}")
        artifact, facts = export_network(entry, module, reference, staged / "network")
        # The artifact is loaded beside nothing else: the largest network decides the peak of memory.
        del module
        return_memory()
        report("verifying")
        check = check_artifact(entry, artifact, reference)
        verify.require(check, entry.limits, f"{entry.name} as {entry.spec.format}", reference.labels)
        report("publishing")
        size = artifact_bytes(artifact)
        provenance = reference.provenance | build_facts(entry, artifact, reference, check) | facts
        image = next(reference.images.batches(1))[0]
        origin = built_from(entry, reference.recipe, provenance)
        largest = reference.recipe.max_bytes
        described = stage.Described(image, reference.classes, reference.labels, provenance, largest, origin)
        preprocess = stage.stage_preprocess(staged / "preprocess", reference.recipe, reference.pictures, entry.cores)
        published = publish.publish(
            repository,
            preprocess,
            stage.stage_network(entry, staged / "network", described),
            stage.stage_ensemble(entry, staged / "ensemble", preprocess.name, described),
        )
    return BuiltModel(
        name=entry.name,
        version=published.version,
        network_model=published.network,
        preprocess_model=preprocess.name,
        format=entry.spec.format,
        precision=entry.spec.precision,
        trained=reference.trained,
        classes=reference.classes,
        artifact_bytes=size,
        seconds=time.perf_counter() - started,
        check=check,
        notes=tuple(f"weights: {said}" for said in [reference.provenance.get(networks.weights.READ_AS)] if said),
        warnings=reference.warnings,
    )
