"""Staged models into the repository, so that a reader never sees, and a kill never leaves, a half.

A served model is an ensemble, with the network and the steps that it names with their versions; or a network alone. The
`config.pbtxt` of what clients ask for is the one switch: until it is replaced, by a rename, everything that was served
before is served unchanged, since

- a new version folder is served only once the config beside it lists it in its version policy;
- while the config of an ensemble's network is replaced it lists the old and the new version;
- a network that is served by itself has no config between: its own is the switch, and lists one version;
- steps and networks that no version of an ensemble names belong to a build that died; the next build removes them;
- what a former version names stays, of a former form or format too, so that one can go back (`rollback.py`) until it is
  pruned (`prune.py`);
- the lock records what is to come before the first rename, and forgets what is gone after the last.

Everything is staged beside the repository, never inside it: Triton takes each folder in it for a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import PublishError, full_or
from builder.repository import layout, lock, names, switching, versions
from builder.repository.layout import CONFIG, NETWORK, VERSION_FOLDER, WARMUP_FOLDER, role_of
from builder.repository.staging import StagedEnsemble, StagedNetwork, StagedStep, locked, sync
from builder.triton import model_config
from builder.util import hashing


@dataclass(frozen=True)
class Published:
    version: int
    network: str
    """The name of its model, which is what clients ask where it is served by itself."""


@dataclass(frozen=True)
class _Pipeline:
    """What is published together."""

    steps: tuple[StagedStep, ...]
    network: StagedNetwork
    ensemble: StagedEnsemble | None

    @property
    def served(self) -> str:
        """What clients ask for."""
        return self.ensemble.name if self.ensemble else self.network.name

    @property
    def roles(self) -> dict[str, str]:
        """By name."""
        found = {step.name: step.role for step in self.steps}
        if not self.ensemble:
            return found | {self.network.name: layout.MODEL}
        return found | {self.network.name: layout.NETWORK, self.ensemble.name: layout.ENSEMBLE}


@dataclass(frozen=True)
class _Numbered:
    """The network as it will be in the repository."""

    name: str
    version: int
    config: str


def publish(
    repository: Path, steps: Sequence[StagedStep], network: StagedNetwork, ensemble: StagedEnsemble | None
) -> Published:
    """Make the staged models what the repository serves under the ensemble's name; or under the network's, alone.

    Raises PublishError, and RepositoryError for a lock that cannot be read.
    """
    pipeline = _Pipeline(tuple({step.name: step for step in steps}.values()), network, ensemble)
    with locked(repository):
        try:
            return _publish(repository, pipeline)
        except OSError as error:
            raise full_or(PublishError, error)(
                f"{pipeline.served} cannot be published in {repository}: {error}. The repository serves what it "
                "served before; mend the cause and build again"
            ) from None


def _publish(repository: Path, pipeline: _Pipeline) -> Published:
    recorded, served = lock.read(repository), pipeline.served
    names.refuse_foreign(repository, pipeline.roles)
    _remove_orphans(repository)
    names.refuse_others(repository, pipeline.served, pipeline.roles)
    names.refuse_other_steps(repository, pipeline.steps)
    published = versions.current(repository / served)
    # Unless the build of that was killed before it said so, it is there.
    switching.write_lock(repository, lock.with_published(recorded, served, published))
    try:
        network = _number(repository, pipeline)
        if pipeline.ensemble:
            _switch_ensemble(repository, pipeline, network, pipeline.ensemble)
        else:
            _switch_alone(repository, pipeline.network, network)
        published = network.version
    finally:
        _remove_orphans(repository)
        recorded = lock.pruned(lock.read(repository), repository)
        switching.write_lock(repository, lock.with_published(recorded, served, published))
    return Published(network.version, network.name)


def _number(repository: Path, pipeline: _Pipeline) -> _Numbered:
    """The network's version, its name, and its folder prepared."""
    staged = pipeline.network
    others = _other_names(repository, staged.name)
    version = _next_version(*(repository / name for name in (pipeline.served, staged.name, *others)))
    name = _network_name(repository, staged, version) if pipeline.ensemble else staged.name
    if name != staged.name:
        names.refuse_foreign(repository, (name,))
        names.refuse_others(repository, pipeline.served, {name: layout.NETWORK})
    config = staged.render(name, version)
    _prepare(staged.folder, version, config)
    _require_roles(pipeline)
    return _Numbered(name, version, config)


def _require_roles(pipeline: _Pipeline) -> None:
    """What calls itself something else would be taken for an orphan by the next build, or never be served."""
    for folder, role in {
        pipeline.network.folder: pipeline.roles[pipeline.network.name],
        **{step.folder: step.role for step in pipeline.steps},
    }.items():
        found = layout.role_of(folder)
        assert found == role, f"{folder} is staged as the {role}, and its config says {found!r}"


def _switch_ensemble(repository: Path, pipeline: _Pipeline, network: _Numbered, ensemble: StagedEnsemble) -> None:
    staged, number = pipeline.network, str(network.version)
    config = ensemble.render(network.name, network.version)
    _prepare(ensemble.folder, network.version, config)
    before = switching.config_or_none(repository / network.name)
    both = None if before is None else switching.serving_both(before, network.config)
    recorded = _with_steps(lock.read(repository), repository, pipeline.steps)
    recorded = lock.with_version(recorded, repository, network.name, number, _described(staged.folder), both)
    described = _described(ensemble.folder, ensemble.built_from)
    switching.write_lock(repository, lock.with_version(recorded, repository, ensemble.name, number, described))
    _add_steps(repository, pipeline.steps)
    _add_version(staged.folder, repository / network.name, network.version)
    if both is not None:
        switching.replace_config(staged.folder, repository / network.name, both)
    _add_version(ensemble.folder, repository / ensemble.name, network.version)
    # The switch. On the first build the rename above was it.
    switching.replace_config(ensemble.folder, repository / ensemble.name, config)
    switching.replace_config(staged.folder, repository / network.name, network.config)


def _switch_alone(repository: Path, staged: StagedNetwork, network: _Numbered) -> None:
    recorded, described = lock.read(repository), _described(staged.folder, staged.built_from)
    switching.write_lock(
        repository, lock.with_version(recorded, repository, network.name, str(network.version), described)
    )
    _add_version(staged.folder, repository / network.name, network.version)
    switching.replace_config(staged.folder, repository / network.name, network.config)


def _described(folder: Path, built_from: dict[str, Any] | None = None) -> lock.Version:
    """For the lock. The config beside the versions is told by their copies of it."""
    files = {name: digest for name, digest in hashing.digests(folder).items() if name != CONFIG}
    return lock.Version(files, built_from or {})


def _with_steps(recorded: lock.Lock, repository: Path, steps: Sequence[StagedStep]) -> lock.Lock:
    """The lock with the steps' one version; one that is there from before there was a lock is the same."""
    for step in steps:
        if not ((repository / step.name).exists() and step.name in recorded):
            files = lock.Version(hashing.digests(step.folder))
            recorded = lock.with_version(recorded, repository, step.name, "1", files)
    return recorded


def _add_steps(repository: Path, steps: Sequence[StagedStep]) -> None:
    for step in steps:
        if not (repository / step.name).exists():
            sync(step.folder)
            switching.rename(step.folder, repository / step.name)


def _prepare(folder: Path, version: int, text: str) -> None:
    """Give the staged version its number, its config, and a copy of that to return to."""
    numbered = folder / str(version)
    (folder / VERSION_FOLDER).rename(numbered)
    (numbered / CONFIG).write_text(text, encoding="utf-8")
    (folder / CONFIG).write_text(text, encoding="utf-8")
    sync(folder)


def _add_version(staged: Path, model: Path, version: int) -> None:
    if not model.exists():
        switching.rename(staged, model)
        # What follows writes its temporary files here again.
        staged.mkdir()
        return
    if (staged / WARMUP_FOLDER).exists():
        (model / WARMUP_FOLDER).mkdir(exist_ok=True)
        for file in (staged / WARMUP_FOLDER).iterdir():  # named by their content
            switching.rename(file, model / WARMUP_FOLDER / file.name)
    switching.rename(staged / str(version), model / str(version))


def _network_name(repository: Path, network: StagedNetwork, version: int) -> str:
    """The network's own name, or another where versions of that name have other inputs or outputs.

    One config.pbtxt describes all versions of a model, so that those could not be served beside this.
    """
    if not (repository / network.name).exists():
        return network.name
    ours = _interface(model_config.parse(network.render(network.name, version), network.name))
    for name in (network.name, *_other_names(repository, network.name)):
        theirs = switching.config_or_none(repository / name)
        if theirs is not None and _interface(theirs) == ours:
            return name
    return f"{network.name}_v{version}"


def _other_names(repository: Path, name: str) -> list[str]:
    """What earlier builds called the network when they could not have its name."""
    found = {entry.name: entry.name.removeprefix(f"{name}_v") for entry in repository.glob(f"{name}_v*")}
    ours = [other for other, number in found.items() if number.isdecimal() and role_of(repository / other) == NETWORK]
    return sorted(ours, key=lambda other: int(found[other]), reverse=True)


def _interface(model: Any) -> Any:
    tensors = [(t.name, t.data_type, tuple(t.dims)) for t in (*model.input, *model.output)]
    return model.backend, model.default_model_filename, tensors, model.max_batch_size > 0


def _next_version(*models: Path) -> int:
    folders = [entry.name for model in models if model.exists() for entry in model.iterdir()]
    return 1 + max((int(name) for name in folders if name.isdecimal()), default=0)


def _remove_orphans(repository: Path) -> None:
    for model in names.orphans(repository):
        switching.take_away(repository, model)
