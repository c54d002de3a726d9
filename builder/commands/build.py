"""build-repo build"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.commands import figures
from builder.commands.options import (
    Accelerators,
    Json,
    ManifestFile,
    Pack,
    RayAddress,
    Repository,
    Storage,
    TaskCpus,
    Weights,
)
from builder.commands.output import as_record, print_json, print_table, progress, say
from builder.commands.plan import say_up_to_date

if TYPE_CHECKING:
    from builder.build.changes import Plan
    from builder.build.entry import Entry
    from builder.build.outcome import Outcome
    from builder.executors.ray.options import Options
    from builder.types import BuiltModel, Report


BRIEF = tuple(column for column in figures.AGREEMENT if column.title in ("TOP-1", "FOUND", "PIXELS", "COSINE"))
"""One figure a task."""


class Executor(StrEnum):
    LOCAL = "local"
    RAY = "ray"


def build(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Entries to build. Default: all.")
    ] = None,
    manifest: ManifestFile = Path("models.yaml"),
    repository: Repository = Path("model_repository"),
    weights: Weights = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, help="Models at a time, each in a process of its own.", metavar="N")
    ] = 1,
    executor: Annotated[
        Executor,
        typer.Option("--executor", "--engine", help="Where models are built: on this machine, or on a Ray cluster."),
    ] = Executor.LOCAL,
    ray_address: RayAddress = "auto",
    storage: Storage = None,
    accelerator: Accelerators = None,
    task_cpus: TaskCpus = 1,
    pack: Pack = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build what is up to date, too.")] = False,
    locked: Annotated[
        bool, typer.Option("--locked", help="Fail if anything would be built, and build nothing.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be built, and build nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Export, verify and publish the models of a manifest: those that are new, or of which something changed."""
    from builder.build.changes import plans, require_up_to_date
    from builder.build.entry import resolve
    from builder.manifest.models import load_manifest

    if rebuild and locked:
        raise typer.BadParameter("--locked builds nothing, and --rebuild builds everything; leave one out")
    options = _cluster_options(executor, jobs, storage, ray_address, accelerator, task_cpus, pack)
    entries = resolve(load_manifest(manifest), models or (), weights)
    found = plans(entries, repository)
    if locked:
        require_up_to_date(found)
    if dry_run:
        _print_entries(entries, found, repository, as_json)
        return
    current = [] if rebuild else [one for one in found if not one.is_due]
    say_up_to_date(current)
    due = [entry for entry, one in zip(entries, found, strict=True) if rebuild or one.is_due]
    with progress(len(due)) as report:
        outcome = _build(due, repository, jobs, options, report)
    _print_outcome(outcome, current, repository, as_json)
    if outcome.failed:
        raise typer.Exit(outcome.failed[0].error.exit_code)


def _cluster_options(
    executor: Executor,
    jobs: int,
    storage: str | None,
    address: str,
    accelerators: list[str] | None,
    cpus: int,
    pack: list[str] | None,
) -> Options | None:
    from builder.executors.ray.options import Options

    if executor == Executor.LOCAL:
        if storage or accelerators or pack:
            raise typer.BadParameter("--storage, --accelerator and --pack are of --executor ray")
        return None
    if storage is None:
        raise typer.BadParameter("--executor ray needs --storage: a folder that all nodes share, or a URI")
    if jobs > 1:
        raise typer.BadParameter("--jobs is of --executor local; a cluster runs as many tasks as it has room for")
    return Options(storage, address, tuple(accelerators or ()), cpus, tuple(pack or ()))


def _build(entries: list[Entry], repository: Path, jobs: int, options: Options | None, report: Report) -> Outcome:
    from builder.build.outcome import Outcome

    if not entries:
        return Outcome()
    from builder.build.run import build_repository
    from builder.executors.processes import build_in_processes
    from builder.executors.ray import build_on_cluster

    if options:
        return build_on_cluster(entries, repository, options, report)
    if jobs == 1:
        return build_repository(entries, repository, report)
    return build_in_processes(entries, repository, jobs, report)


def _print_entries(entries: list[Entry], found: list[Plan], repository: Path, as_json: bool) -> None:
    records = [
        {
            "name": p.name,
            "network": p.spec.network or str(p.spec.artifact),
            "weights": str(p.weights.path or p.weights.name),
            "format": p.spec.format,
            "precision": p.spec.precision,
            "device": p.spec.device,
            "state": str(plan),
            "publishes": [str(repository / name) for name in p.published_names],
        }
        for p, plan in zip(entries, found, strict=True)
    ]
    if as_json:
        print_json(records)
        return
    columns = ("MODEL", "NETWORK", "WEIGHTS", "FORMAT", "PRECISION", "DEVICE", "STATE", "PUBLISHES")
    print_table(columns, [(*list(r.values())[:-1], ", ".join(r["publishes"])) for r in records])


def _print_outcome(outcome: Outcome, current: list[Plan], repository: Path, as_json: bool) -> None:
    for failure in outcome.failed:
        say(f"{failure.name}: FAILED: {str(failure.error).removeprefix(f'{failure.name}: ')}")
    for model in outcome.built:
        for note in model.notes:
            say(f"{model.name}: {note}")
    untrained = [model.name for model in outcome.built if not model.trained]
    if untrained:
        say(f"WARNING: random weights, so the answers are MEANINGLESS: {', '.join(untrained)}")
    for model in outcome.built:
        for warning in model.warnings:
            say(f"WARNING: {model.name}: {warning}")
    if as_json:
        failed = [
            {"name": f.name, "error": type(f.error).__name__, "message": str(f.error), "exit_code": f.error.exit_code}
            for f in outcome.failed
        ]
        built = [as_record(m) for m in outcome.built]
        up_to_date = [{"name": one.name, "version": one.version} for one in current]
        print_json({"repository": str(repository), "built": built, "failed": failed, "up_to_date": up_to_date})
    elif outcome.built:
        _print_built(outcome.built)


def _print_built(built: list[BuiltModel]) -> None:
    """The columns beyond MAX ERROR say how far the artifact agrees with the network, and, where that is known of the
    samples, how often it is right."""
    columns = ("MODEL", "VERSION", "FORMAT", "PRECISION", "MB", "SECONDS", "MAX ERROR")
    proofs = [m.verification.figures() for m in built]
    more = figures.columns(proofs, BRIEF + figures.QUALITY)
    rows = [
        (
            m.name,
            m.version,
            m.format,
            m.precision,
            f"{m.artifact_bytes / 1e6:.1f}",
            f"{m.seconds:.1f}",
            f"{m.verification.max_abs_error:.1e}",
            *(figures.told(proof, column) for column in more),
        )
        for m, proof in zip(built, proofs, strict=True)
    ]
    titles = tuple(column.title for column in more)
    print_table(columns + titles, rows, numbers=(1, *range(4, len(columns + titles))))
