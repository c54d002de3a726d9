"""Builds on an existing Ray cluster: pack -> a task a model and GPU -> ship -> fetch -> merge into one repository."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from builder.build.entry import Entry
from builder.build.inputs import Reading
from builder.build.run import Outcome
from builder.errors import BuilderError
from builder.executors.ray import session, worker
from builder.executors.ray.options import Options
from builder.executors.ray.parcels import pack
from builder.executors.ray.storage import Storage, run_in
from builder.executors.ray.tasks import RayTask, tasks_of
from builder.repository import staging
from builder.repository.merge import merge_repositories
from builder.types import BuiltModel, Report
from builder.util.remembered import Digests

__all__ = ["Options", "build_on_cluster"]


@dataclass
class Standing:
    """What has become of an entry so far."""

    entry: Entry
    open: int = 0
    """Tasks that have not ended."""
    error: BuilderError | None = None
    built: list[BuiltModel] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    """Fetched repositories, one of each task."""

    @property
    def is_done(self) -> bool:
        return not self.open and bool(self.error or self.built)


def build_on_cluster(
    entries: Sequence[Entry],
    repository: Path,
    options: Options,
    report: Report = lambda _: None,
    work: session.Work = worker.run,
) -> Outcome:
    """As `build_repository`, on the nodes of a cluster. Raises ClusterError where nothing can be begun.

    An entry whose tasks have all ended well is published at once; of one that has a failure, nothing is.
    """
    standings = [Standing(entry) for entry in entries]
    with session.connected(options.address) as ray:
        tasks = tasks_of(entries, session.nodes(ray), options)
        # In this order, so that the tasks have ended before what they work on is taken away.
        with (
            staging.staging(repository) as staged,
            run_in(options.storage) as storage,
            closing(session.Running(ray, options)) as running,
        ):
            _submit(tasks, standings, running, storage, work, report)
            for task, result in running.results():
                standing = standings[task.number]
                _note(standing, task, result, storage, staged)
                if not standing.open:
                    _publish(standing, repository, report)
                done = sum(standing.is_done for standing in standings)
                report(f"{task.entry.name}: {task.name} ended; {done} of {len(entries)} models done")
    outcome = Outcome()
    for standing in standings:
        outcome.add(standing.entry.name, standing.error or standing.built[0])
    return outcome


def _submit(
    tasks: Sequence[RayTask],
    standings: Sequence[Standing],
    running: session.Running,
    storage: Storage,
    work: session.Work,
    report: Report,
) -> None:
    """Every task of the entries whose files could be packed."""
    versions = worker.versions([standing.entry for standing in standings])
    known: set[str] = set()
    for number, standing in enumerate(standings):
        own = [task for task in tasks if task.number == number]
        report(f"{standing.entry.name}: packing its files")
        try:
            inputs = Reading(Digests()).of(standing.entry)  # before they are packed
            sized = replace(standing.entry, build_cores=running.options.cpus, inputs=inputs)
            parcel = pack(sized, storage, running.options.pack, known)
        except BuilderError as error:
            standing.error = error
            continue
        for task in own:
            key = f"results/{number}-{task.accelerator or 'cpu'}"
            running.submit(work, task, worker.Job(key, parcel, storage, versions))
        standing.open = len(own)
        report(f"{standing.entry.name}: waiting for {len(own)} task{'s' if len(own) > 1 else ''} on the cluster")


def _note(
    standing: Standing, task: RayTask, result: worker.Built | BuilderError, storage: Storage, staged: Path
) -> None:
    standing.open -= 1
    if isinstance(result, BuilderError):
        standing.error = standing.error or result
        return
    folder = staged / f"{task.number}-{task.accelerator or 'cpu'}" / "repository"
    try:
        storage.fetch(result.shipment, folder)
    except BuilderError as error:
        standing.error = standing.error or error
        return
    standing.built.append(result.model)
    standing.folders.append(folder)


def _publish(standing: Standing, repository: Path, report: Report) -> None:
    """What all tasks of the entry have built, as one model."""
    report(f"{standing.entry.name}: publishing")
    try:
        if not standing.error:
            (merged,) = merge_repositories(standing.folders, repository)
            worst = max(standing.built, key=lambda model: model.verification.max_abs_error)
            size, seconds = sum(m.artifact_bytes for m in standing.built), max(m.seconds for m in standing.built)
            model = replace(worst, version=merged.version, network_model=merged.network_model)
            standing.built = [replace(model, artifact_bytes=size, seconds=seconds)]
    except BuilderError as error:
        standing.error = error
    for folder in standing.folders:
        shutil.rmtree(folder.parent, ignore_errors=True)
