"""Repositories into one: a model that was built on several GPUs becomes one model with a plan for each."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from builder.errors import MergeError, full_or
from builder.repository import agreement, layout, lock, names, publish, staging
from builder.repository.layout import role_of
from builder.repository.served import Part, Served, read_repository
from builder.triton import model_config, releases
from builder.util import hashing


@dataclass(frozen=True)
class Merged:
    """What was published of one model."""

    name: str
    version: int
    network_model: str
    sources: tuple[str, ...]
    capabilities: tuple[str, ...]
    """Compute capabilities that there are plans for; none for other formats."""


@dataclass
class Union:
    """A model to be published. The first source gives all but the other sources' plans."""

    sources: list[Served]
    owners: dict[str, Served] = field(default_factory=dict)
    """Whose plan is taken, by compute capability; empty where there is nothing to gather."""


def merge_repositories(sources: Sequence[Path], repository: Path) -> list[Merged]:
    """Publish every model of the sources, each as a new version; nothing, unless all go together.

    Raises MergeError, PublishError, RepositoryError.
    """
    for source in sources:
        if source.resolve() == repository.resolve():
            raise MergeError(f"{source} is both a source and the target; give another target with -r")
    found: dict[str, list[Served]] = {}
    for source in sources:
        for served in read_repository(source, MergeError):
            found.setdefault(served.name, []).append(served)
    unions = [_union(models) for models in found.values()]
    for source in sources:
        lock.require_intact(source)  # or what was damaged would be recorded as if it had been built so
    _refuse_clashes(unions, repository)
    with staging.staging(repository) as staged:
        folders = [_stage(union, staged / str(number)) for number, union in enumerate(unions)]
        return [_publish(union, folder, repository) for union, folder in zip(unions, folders, strict=True)]


def _union(models: list[Served]) -> Union:
    first, *others = models
    for other in others:
        _require_agreement(first, other)
    if not others or not first.plans():
        return Union(models)
    owners: dict[str, Served] = {}
    for model in models:
        for capability in model.plans():
            if capability in owners:
                _require_same_plan(capability, owners[capability], model)
            owners.setdefault(capability, model)
    return Union(models, owners)


def _require_agreement(one: Served, other: Served) -> None:
    versions = [model.network.facts.get("tensorrt_version", "") for model in (one, other)]
    if one.plans() and other.plans() and not releases.same_tensorrt(*versions):
        raise MergeError(
            f"{one.name}: the plans are of TensorRT {versions[0] or '(not recorded)'} in {one.repository} and of "
            f"{versions[1] or '(not recorded)'} in {other.repository}, and one server cannot load both; build them "
            "with one version, such as `tensorrt: {builder: trtexec, image: ...}` with one image"
        )
    differences = list(dict.fromkeys(agreement.differences(one, other)))
    if differences:
        raise MergeError(
            f"{one.name} is not one model in {one.repository} and {other.repository}: {'; '.join(differences)}. "
            "Build both of one manifest, or leave one of them out"
        )


def _require_same_plan(capability: str, one: Served, other: Served) -> None:
    gpus = [model.facts_of(model.network, capability).get("gpu", "an unknown GPU") for model in (one, other)]
    if gpus[0] != gpus[1]:
        raise MergeError(
            f"{one.name}: {gpus[0]} in {one.repository} and {gpus[1]} in {other.repository} both have compute "
            f"capability {capability}, by which a server chooses the plan; serve them from repositories of their own"
        )
    if not filecmp.cmp(one.plans()[capability], other.plans()[capability], shallow=False):
        raise MergeError(
            f"{one.name}: {one.repository} and {other.repository} have different plans for {gpus[0]} ({capability}); "
            "leave one of them out"
        )


def _refuse_clashes(unions: list[Union], repository: Path) -> None:
    """Names must keep their roles, or one model would be published over another."""
    roles: dict[str, str] = {}
    owners: dict[str, Served] = {}
    for model in (union.sources[0] for union in unions):
        _require_own_network(model, owners)
        for part in model.parts:
            _require_own_step(model, part, owners)
            _require_role(model, part, roles.get(part.name) or role_of(repository / part.name))
            roles[part.name] = part.role
        names.refuse_others(repository, model.name, {model.network.name: model.network.role})
    names.refuse_foreign(repository, roles)


def _require_role(model: Served, part: Part, existing: str) -> None:
    if existing and not layout.same_kind(part.role, existing):
        raise MergeError(
            f"{part.name} is the {part.role} of {model.name} in {model.repository}, and the name of another model's "
            f"{existing}; give one of the entries in the manifests another name"
        )


def _require_own_network(model: Served, owners: dict[str, Served]) -> None:
    """Raise MergeError where two models would share a network's folder."""
    owner = owners.setdefault(model.network.name, model)
    if owner is not model:
        raise MergeError(
            f"{model.network.name} is the network of both {owner.name} in {owner.repository} and {model.name} in "
            f"{model.repository}; give one of the entries in the manifests another name"
        )


def _require_own_step(model: Served, part: Part, owners: dict[str, Served]) -> None:
    """Raise MergeError where two models would share a step's folder, unless the step is the same in both."""
    first = owners.setdefault(part.name, model)
    theirs = next((step for step in first.steps if step.name == part.name), None)
    if theirs and part in model.steps and not agreement.is_same_step(theirs, part):
        raise MergeError(
            f"{part.name} is one step in {first.repository} and another in {model.repository}; build "
            f"{first.name} and {model.name} again, with one version of build-repo"
        )


def _stage(union: Union, folder: Path) -> Path:
    first = union.sources[0]
    try:
        for step in first.steps:
            _copy(step.model, folder / "steps" / step.name, hashing.CACHE)
        for part in filter(None, (first.ensemble, first.network)):
            _copy(part.folder, _staged(folder, part) / layout.VERSION_FOLDER, layout.CONFIG)
        for file in _warmup_files(first.network):
            (folder / "network" / layout.WARMUP_FOLDER).mkdir(exist_ok=True)
            shutil.copy(file, folder / "network" / layout.WARMUP_FOLDER / file.name)
        _gather_plans(union, folder / "network" / layout.VERSION_FOLDER)
    except OSError as error:
        raise full_or(MergeError, error)(f"{first.name} cannot be copied from {first.repository}: {error}") from None
    return folder


def _staged(folder: Path, part: Part) -> Path:
    return folder / ("ensemble" if part.role == layout.ENSEMBLE else "network")


def _copy(source: Path, target: Path, without: str) -> None:
    """With times of their own: a server loads a model again only if something in it is newer than before."""
    shutil.copytree(source, target, copy_function=shutil.copy, ignore=shutil.ignore_patterns(without))


def _warmup_files(network: Part) -> set[Path]:
    """None for what is warmed up with zeros or noise."""
    tensors = [tensor for warmup in network.config.model_warmup for tensor in warmup.inputs.values()]
    return {network.model / layout.WARMUP_FOLDER / file for tensor in tensors if (file := tensor.input_data_file)}


def _gather_plans(union: Union, version: Path) -> None:
    for capability, owner in union.owners.items():
        shutil.copy(owner.plans()[capability], version / layout.plan_filename(capability))


def _publish(union: Union, folder: Path, repository: Path) -> Merged:
    first, origin = union.sources[0], _built_from(union)
    network, ensemble = folder / "network", None
    if first.ensemble:
        render = partial(_render_ensemble, union, first.ensemble)
        ensemble = staging.StagedEnsemble(first.name, folder / "ensemble", render, origin)
    published = publish.publish(
        repository,
        [staging.StagedStep(step.name, folder / "steps" / step.name, step.role) for step in first.steps],
        staging.StagedNetwork(first.network.name, network, partial(_render_network, union), {} if ensemble else origin),
        ensemble,
    )
    return Merged(
        first.name,
        published.version,
        published.network,
        tuple(str(source.repository) for source in union.sources),
        tuple(sorted(union.owners or first.plans())),
    )


def _built_from(union: Union) -> dict[str, Any]:
    """For the lock: what the sources' locks say; of each plan, where there are several."""
    if not union.owners:
        return _recorded_origin(union.sources[0])
    return {"plans": {capability: _recorded_origin(owner, capability) for capability, owner in union.owners.items()}}


def _recorded_origin(model: Served, capability: str = "") -> dict[str, Any]:
    record = lock.read(model.repository).get(model.name)
    version = record and record.versions.get(str(model.version))
    origin: dict[str, Any] = version.built_from if version else {}
    of_plan: dict[str, Any] = origin.get("plans", {}).get(capability, origin)
    return of_plan


def _render_network(union: Union, name: str, version: int) -> str:
    config = _renumbered(union, union.sources[0].network, version)
    config.name = name
    for capability in union.owners:
        config.cc_model_filenames[capability] = layout.plan_filename(capability)
    return model_config.to_text(config)


def _render_ensemble(union: Union, ensemble: Part, network: str, version: int) -> str:
    config = _renumbered(union, ensemble, version)
    for call in config.ensemble_scheduling.step:
        if call.model_name == union.sources[0].network.name:
            call.model_name, call.model_version = network, version
    return model_config.to_text(config)


def _renumbered(union: Union, part: Part, version: int) -> Any:
    """The first source's config as that of another version, with what every source recorded."""
    config = type(part.config)()
    config.CopyFrom(part.config)
    config.version_policy.specific.versions[:] = [version]
    for output in config.output:
        if output.label_filename:
            output.label_filename = f"{version}/{Path(output.label_filename).name}"
    if union.owners:
        config.parameters.clear()
        for key, value in _recorded(union, part).items():
            config.parameters[key].string_value = value
    return config


def _recorded(union: Union, part: Part) -> dict[str, str]:
    """`part` is the first source's network or ensemble."""
    facts = union.sources[0].shared_facts(part)
    for capability, owner in union.owners.items():
        theirs = owner.network if part.role != layout.ENSEMBLE else owner.asked
        facts |= {f"{key}_{capability}": value for key, value in owner.facts_of(theirs, capability).items()}
    return facts
