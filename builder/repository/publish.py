"""Staged models into the repository, so that a reader never sees, and a kill never leaves, a half.

A served model is three Triton models: the ensemble, and the network and preprocess steps that it
names with their versions. The ensemble's `config.pbtxt` is the one switch: until it is replaced,
by a rename, everything that was served before is served unchanged, since

- a new version folder is served only once the config beside it lists it in its version policy;
- while the network's config is replaced it lists the old and the new version;
- steps that no ensemble names belong to a build that died, or to a former format; the next build
  removes them;
- the lock records what is to come before the first rename, and forgets what is gone after the last.

Everything is staged beside the repository, never inside it: Triton takes each folder in it for a model.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import ConfigError, PublishError
from builder.repository import lock
from builder.repository.layout import CONFIG, ROLE, VERSION_FOLDER, WARMUP_FOLDER
from builder.repository.staging import StagedEnsemble, StagedNetwork, StagedStep, locked, staging_root, sync
from builder.triton import model_config
from builder.util import hashing


@dataclass(frozen=True)
class Published:
    version: int
    network: str


def publish(repository: Path, preprocess: StagedStep, network: StagedNetwork, ensemble: StagedEnsemble) -> Published:
    """Make the staged models what the repository serves under the ensemble's name.

    Raises PublishError, and RepositoryError for a lock that cannot be read.
    """
    with locked(repository):
        try:
            lock.read(repository)
            refuse_foreign(repository, (preprocess.name, network.name, ensemble.name))
            _remove_orphans(repository)
            refuse_others(repository, ensemble.name, {"preprocess": preprocess.name, "network": network.name})
            _refuse_another_step(repository, preprocess)
            try:
                return _publish(repository, preprocess, network, ensemble)
            finally:
                _remove_orphans(repository)
                _write_lock(repository, lock.pruned(lock.read(repository), repository))
        except OSError as error:
            raise PublishError(
                f"{ensemble.name} cannot be published in {repository}: {error}. The repository serves what it "
                "served before; mend the cause and build again"
            ) from None


def _publish(repository: Path, preprocess: StagedStep, network: StagedNetwork, ensemble: StagedEnsemble) -> Published:
    version = _next_version(repository / network.name, repository / ensemble.name)
    name = _network_name(repository, network, version)
    if name != network.name:
        refuse_foreign(repository, (name,))
        refuse_others(repository, ensemble.name, {"network": name})
    network_config, ensemble_config = network.render(name, version), ensemble.render(name, version)
    _prepare(network.folder, version, network_config)
    _prepare(ensemble.folder, version, ensemble_config)
    before = _config_or_none(repository / name)
    both = None if before is None else _serving_both(before, network_config)
    recorded = _with_step(lock.read(repository), repository, preprocess)
    recorded = lock.with_version(recorded, repository, name, str(version), _files(network.folder), both)
    described = _files(ensemble.folder, ensemble.built_from)
    _write_lock(repository, lock.with_version(recorded, repository, ensemble.name, str(version), described))
    if not (repository / preprocess.name).exists():
        sync(preprocess.folder)
        _rename(preprocess.folder, repository / preprocess.name)
    _add_version(network.folder, repository / name, version)
    if both is not None:
        _replace_config(network.folder, repository / name, both)
    _add_version(ensemble.folder, repository / ensemble.name, version)
    # The switch. On the first build the rename above was it.
    _replace_config(ensemble.folder, repository / ensemble.name, ensemble_config)
    _replace_config(network.folder, repository / name, network_config)
    return Published(version, name)


def _files(folder: Path, built_from: dict[str, Any] | None = None) -> lock.Version:
    """For the lock. The config beside the versions is told by their copies of it."""
    files = {name: digest for name, digest in hashing.digests(folder).items() if name != CONFIG}
    return lock.Version(files, built_from or {})


def _with_step(recorded: lock.Lock, repository: Path, step: StagedStep) -> lock.Lock:
    """The lock with the step's one version; one that is there from before there was a lock is the same."""
    if (repository / step.name).exists() and step.name in recorded:
        return recorded
    return lock.with_version(recorded, repository, step.name, "1", lock.Version(hashing.digests(step.folder)))


def _write_lock(repository: Path, recorded: lock.Lock) -> None:
    if recorded != lock.read(repository):
        temporary = staging_root(repository) / lock.FILENAME
        temporary.write_text(lock.to_text(recorded), encoding="utf-8")
        sync(temporary)
        _rename(temporary, repository / lock.FILENAME)


def _serving_both(before: Any, after: str) -> str:
    """The network's config for the moment in which the old and the new ensemble may call it."""
    both = model_config.parse(after, "the new config")
    both.max_batch_size = max(before.max_batch_size, both.max_batch_size)
    versions = sorted({*before.version_policy.specific.versions, *both.version_policy.specific.versions})
    both.version_policy.specific.versions[:] = versions
    return model_config.to_text(both)


def _prepare(folder: Path, version: int, text: str) -> None:
    """Give the staged version its number, its config, and a copy of that to return to."""
    numbered = folder / str(version)
    (folder / VERSION_FOLDER).rename(numbered)
    (numbered / CONFIG).write_text(text, encoding="utf-8")
    (folder / CONFIG).write_text(text, encoding="utf-8")
    sync(folder)


def _add_version(staged: Path, model: Path, version: int) -> None:
    if not model.exists():
        _rename(staged, model)
        # What follows writes its temporary files here again.
        staged.mkdir()
        return
    if (staged / WARMUP_FOLDER).exists():
        (model / WARMUP_FOLDER).mkdir(exist_ok=True)
        for file in (staged / WARMUP_FOLDER).iterdir():  # named by their content
            _rename(file, model / WARMUP_FOLDER / file.name)
    _rename(staged / str(version), model / str(version))


def _replace_config(staged: Path, model: Path, text: str) -> None:
    temporary = staged / CONFIG
    temporary.write_text(text, encoding="utf-8")
    sync(temporary)
    _rename(temporary, model / CONFIG)


def _rename(source: Path, target: Path) -> None:
    """The one call by which the repository changes: atomic, and seen by tests that kill a build here."""
    source.replace(target)


def _network_name(repository: Path, network: StagedNetwork, version: int) -> str:
    """The network's own name, or another where versions of that name have other inputs or outputs.

    One config.pbtxt describes all versions of a model, so that those could not be served beside this.
    """
    existing = repository / network.name
    if not existing.exists():
        return network.name
    ours = model_config.parse(network.render(network.name, version), network.name)
    theirs = model_config.read(existing / CONFIG)
    return network.name if _interface(ours) == _interface(theirs) else f"{network.name}_v{version}"


def _interface(model: Any) -> Any:
    tensors = [(t.name, t.data_type, tuple(t.dims)) for t in (*model.input, *model.output)]
    return model.backend, model.default_model_filename, tensors


def _config_or_none(model: Path) -> Any:
    return model_config.read(model / CONFIG) if (model / CONFIG).exists() else None


def _next_version(*models: Path) -> int:
    folders = [entry.name for model in models if model.exists() for entry in model.iterdir()]
    return 1 + max((int(name) for name in folders if name.isdecimal()), default=0)


def refuse_foreign(repository: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (repository / name).exists() and not _role(repository / name):
            raise PublishError(
                f"{repository / name} was not made by build-repo, so it is left alone; move it away, or give the "
                "entry in the manifest another name"
            )


def refuse_others(repository: Path, ensemble: str, steps: Mapping[str, str]) -> None:
    """Raise PublishError where a name is another served model's, or that of its step. `steps` are names by role.

    A network is its ensemble's alone; only preprocessing steps, which are named by their content, are shared.
    """
    users = _users(repository)
    for role, name in {"ensemble": ensemble, **steps}.items():
        existing, owners = _role(repository / name), sorted(users.get(name, set()) - {ensemble})
        is_shared = role == existing == "preprocess"
        if existing and (existing != role or (owners and not is_shared)):
            whose = f" of {', '.join(map(repr, owners))}" if owners else ""
            raise PublishError(
                f"{name!r} is in {repository} the {existing}{whose}, and would be overwritten with the {role} of "
                f"{ensemble!r}; give one of the entries another name, or another repository (-r)"
            )


def _users(repository: Path) -> dict[str, set[str]]:
    """By step, the ensembles that name it."""
    found: dict[str, set[str]] = {}
    for model in (file.parent for file in repository.glob(f"*/{CONFIG}")):
        if _is_readable(model):
            for step in model_config.read(model / CONFIG).ensemble_scheduling.step:
                found.setdefault(step.model_name, set()).add(model.name)
    return found


def _refuse_another_step(repository: Path, step: StagedStep) -> None:
    """Raise PublishError if a step of this name is there and does something else: the new model would run that."""
    there = repository / step.name
    if there.exists() and hashing.digests(there) != hashing.digests(step.folder):
        raise PublishError(
            f"{there} is not the step that its name stands for: its files differ from what is to be published; it was "
            "changed, or damaged. Move it away, and build again every model that uses it"
        )


def _role(model: Path) -> str:
    try:
        return str(model_config.read(model / CONFIG).parameters[ROLE].string_value)
    except (OSError, ConfigError):
        return ""


def _remove_orphans(repository: Path) -> None:
    """Take away our steps that no ensemble names."""
    models = [entry for entry in repository.iterdir() if (entry / CONFIG).is_file()]
    steps = {
        step.model_name
        for model in models
        if _is_readable(model)
        for step in model_config.read(model / CONFIG).ensemble_scheduling.step
    }
    for model in models:
        if model.name not in steps and _role(model) in ("network", "preprocess"):
            trash = Path(tempfile.mkdtemp(dir=staging_root(repository)))
            _rename(model, trash / model.name)  # gone at once; deleting takes its time
            shutil.rmtree(trash, ignore_errors=True)


def _is_readable(model: Path) -> bool:
    try:
        model_config.read(model / CONFIG)
    except (ConfigError, OSError):
        return False
    return True
