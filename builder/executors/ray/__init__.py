"""Builds on an existing Ray cluster: pack -> a task a model and GPU -> ship -> fetch -> merge into one repository."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from builder.build.entry import Plan
from builder.build.run import Outcome
from builder.errors import BuilderError
from builder.executors.ray import session, worker
from builder.executors.ray.options import Options
from builder.executors.ray.parcels import pack
from builder.executors.ray.storage import Storage, run_in
from builder.executors.ray.tasks import Task, tasks_of
from builder.repository import publish
from builder.repository.merge import merge_repositories
from builder.types import BuiltModel, Report

__all__ = ["Options", "build_on_cluster"]


@dataclass
class Entry:
    """What has become of a plan so far."""

    plan: Plan
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
    plans: Sequence[Plan],
    repository: Path,
    options: Options,
    report: Report = lambda _: None,
    work: session.Work = worker.run,
) -> Outcome:
    """As `build_repository`, on the nodes of a cluster. Raises ClusterError where nothing can be begun.

    An entry whose tasks have all ended well is published at once; of one that has a failure, nothing is.
    """
    entries = [Entry(plan) for plan in plans]
    with session.connected(options.address) as ray:
        tasks = tasks_of(plans, session.nodes(ray), options)
        # In this order, so that the tasks have ended before what they work on is taken away.
        with (
            publish.staging(repository) as staged,
            run_in(options.storage) as storage,
            closing(session.Running(ray, options)) as running,
        ):
            _submit(tasks, entries, running, storage, work, report)
            for task, result in running.results():
                entry = entries[task.number]
                _note(entry, task, result, storage, staged)
                if not entry.open:
                    _publish(entry, repository, report)
                done = sum(entry.is_done for entry in entries)
                report(f"{task.plan.name}: {task.name} ended; {done} of {len(plans)} models done")
    outcome = Outcome()
    for entry in entries:
        outcome.add(entry.plan.name, entry.error or entry.built[0])
    return outcome


def _submit(
    tasks: Sequence[Task],
    entries: Sequence[Entry],
    running: session.Running,
    storage: Storage,
    work: session.Work,
    report: Report,
) -> None:
    """Every task of the entries whose files could be packed."""
    versions = worker.versions([entry.plan for entry in entries])
    known: set[str] = set()
    for number, entry in enumerate(entries):
        own = [task for task in tasks if task.number == number]
        report(f"{entry.plan.name}: packing its files")
        try:
            parcel = pack(replace(entry.plan, build_cores=running.options.cpus), storage, running.options.pack, known)
        except BuilderError as error:
            entry.error = error
            continue
        for task in own:
            key = f"results/{number}-{task.accelerator or 'cpu'}"
            running.submit(work, task, worker.Job(key, parcel, storage, versions))
        entry.open = len(own)
        report(f"{entry.plan.name}: waiting for {len(own)} task{'s' if len(own) > 1 else ''} on the cluster")


def _note(entry: Entry, task: Task, result: worker.Built | BuilderError, storage: Storage, staged: Path) -> None:
    entry.open -= 1
    if isinstance(result, BuilderError):
        entry.error = entry.error or result
        return
    folder = staged / f"{task.number}-{task.accelerator or 'cpu'}" / "repository"
    try:
        storage.fetch(result.shipment, folder)
    except BuilderError as error:
        entry.error = entry.error or error
        return
    entry.built.append(result.model)
    entry.folders.append(folder)


def _publish(entry: Entry, repository: Path, report: Report) -> None:
    """What all tasks of the entry have built, as one model."""
    report(f"{entry.plan.name}: publishing")
    try:
        if not entry.error:
            (merged,) = merge_repositories(entry.folders, repository)
            worst = max(entry.built, key=lambda model: model.check.max_abs_error)
            size, seconds = sum(m.artifact_bytes for m in entry.built), max(m.seconds for m in entry.built)
            model = replace(worst, version=merged.version, network_model=merged.network_model)
            entry.built = [replace(model, artifact_bytes=size, seconds=seconds)]
    except BuilderError as error:
        entry.error = error
    for folder in entry.folders:
        shutil.rmtree(folder.parent, ignore_errors=True)
