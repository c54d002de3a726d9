"""Repositories into one: a model that was built on several GPUs becomes one model with a plan for each."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from builder.errors import MergeError
from builder.repository import layout, lock, publish, staging
from builder.repository.layout import role_of
from builder.repository.served import Served, read_repository
from builder.triton import model_config, releases
from builder.util import hashing

LABELS = "labels.txt"
# Fields of a config that name a model's place in its repository, or that are compared by themselves.
PLACES = {"name", "version_policy", "cc_model_filenames", "parameters", "model_warmup", "ensemble_scheduling"}


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
    versions = [model.facts("network").get("tensorrt_version", "") for model in (one, other)]
    if one.plans() and other.plans() and not releases.same_tensorrt(*versions):
        raise MergeError(
            f"{one.name}: the plans are of TensorRT {versions[0] or '(not recorded)'} in {one.repository} and of "
            f"{versions[1] or '(not recorded)'} in {other.repository}, and one server cannot load both; build them "
            "with one version, such as `tensorrt: {builder: trtexec, image: ...}` with one image"
        )
    differences = list(dict.fromkeys(_differences(one, other)))
    if differences:
        raise MergeError(
            f"{one.name} is not one model in {one.repository} and {other.repository}: {'; '.join(differences)}. "
            "Build both of one manifest, or leave one of them out"
        )


def _differences(one: Served, other: Served) -> Iterator[str]:
    if not _is_same_step(one, other):
        yield f"the preprocessing differs ({one.preprocess} and {other.preprocess})"
    if _labels(one) != _labels(other):
        yield "the labels differ"
    for role in ("network", "ensemble"):
        yield from _config_differences(one.configs[role], other.configs[role])
        yield from _fact_differences(one.shared_facts(role), other.shared_facts(role))
    if not one.plans() and not _is_same_folder(one.folder("network"), other.folder("network")):
        yield "the artifacts differ, and only plans of different GPUs go together"


def _is_same_step(one: Served, other: Served) -> bool:
    """Whether both compute the same: steps are also named by the cores of the machine that built them."""
    steps = [model.configs["preprocess"] for model in (one, other)]
    files = [model.repository / model.preprocess / "1" / "model.py" for model in (one, other)]
    recipes = [step.parameters["recipe"].string_value for step in steps]
    return recipes[0] == recipes[1] and filecmp.cmp(files[0], files[1], shallow=False)


def _labels(model: Served) -> list[bytes | None]:
    files = [model.folder(role) / LABELS for role in ("ensemble", "network")]
    return [file.read_bytes() if file.is_file() else None for file in files]


def _config_differences(one: Any, other: Any) -> Iterator[str]:
    first, second = _without_places(one), _without_places(other)
    for descriptor in first.DESCRIPTOR.fields:
        values = [getattr(model, descriptor.name) for model in (first, second)]
        if values[0] != values[1]:
            is_simple = isinstance(values[0], (str, int))
            yield f"{descriptor.name} {f'is {values[0]} and {values[1]}' if is_simple else 'differs'}"


def _without_places(model: Any) -> Any:
    rest = type(model)()
    rest.CopyFrom(model)
    for name in PLACES:
        rest.ClearField(name)
    for output in rest.output:
        output.ClearField("label_filename")
    return rest


def _fact_differences(one: dict[str, str], other: dict[str, str]) -> Iterator[str]:
    # The recipes are compared themselves, and configs of before do not repeat what they say.
    for key in sorted({*one, *other} - {"tensorrt_version", layout.MAX_IMAGE_BYTES}):
        if one.get(key) != other.get(key):
            yield f"{key} is {one.get(key, 'not recorded')} and {other.get(key, 'not recorded')}"


def _is_same_folder(one: Path, other: Path) -> bool:
    names = [sorted(file.name for file in folder.iterdir() if file.name != layout.CONFIG) for folder in (one, other)]
    return names[0] == names[1] and all(filecmp.cmp(one / name, other / name, shallow=False) for name in names[0])


def _require_same_plan(capability: str, one: Served, other: Served) -> None:
    gpus = [model.facts_of("network", capability).get("gpu", "an unknown GPU") for model in (one, other)]
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
        _require_own_steps(model, owners)
        for name, role in ((model.name, "ensemble"), (model.network, "network"), (model.preprocess, "preprocess")):
            existing = role_of(repository / name) or roles.get(name, role)
            if role != existing or roles.get(name, role) != role:
                raise MergeError(
                    f"{name} is the {role} of {model.name} in {model.repository}, and the name of another model's "
                    f"{existing}; give one of the entries in the manifests another name"
                )
            roles[name] = role
        publish.refuse_others(repository, model.name, {"network": model.network})
    publish.refuse_foreign(repository, tuple(roles))


def _require_own_steps(model: Served, owners: dict[str, Served]) -> None:
    """Raise MergeError where two models would share a folder, unless it is a step that is the same in both."""
    owner = owners.setdefault(model.network, model)
    if owner is not model:
        raise MergeError(
            f"{model.network} is the network of both {owner.name} in {owner.repository} and {model.name} in "
            f"{model.repository}; give one of the entries in the manifests another name"
        )
    first = owners.setdefault(model.preprocess, model)
    if first is not model and not _is_same_step(first, model):
        raise MergeError(
            f"{model.preprocess} is one step in {first.repository} and another in {model.repository}; build "
            f"{first.name} and {model.name} again, with one version of build-repo"
        )


def _stage(union: Union, folder: Path) -> Path:
    first = union.sources[0]
    try:
        _copy(first.repository / first.preprocess, folder / "preprocess", hashing.CACHE)
        for role in ("ensemble", "network"):
            _copy(first.folder(role), folder / role / layout.VERSION_FOLDER, layout.CONFIG)
        for file in _warmup_files(first):
            (folder / "network" / layout.WARMUP_FOLDER).mkdir(exist_ok=True)
            shutil.copy(file, folder / "network" / layout.WARMUP_FOLDER / file.name)
        _gather_plans(union, folder / "network" / layout.VERSION_FOLDER)
    except OSError as error:
        raise MergeError(f"{first.name} cannot be copied from {first.repository}: {error}") from None
    return folder


def _copy(source: Path, target: Path, without: str) -> None:
    """With times of their own: a server loads a model again only if something in it is newer than before."""
    shutil.copytree(source, target, copy_function=shutil.copy, ignore=shutil.ignore_patterns(without))


def _warmup_files(model: Served) -> set[Path]:
    folder = model.repository / model.network / layout.WARMUP_FOLDER
    warmups = model.configs["network"].model_warmup
    return {folder / tensor.input_data_file for warmup in warmups for tensor in warmup.inputs.values()}


def _gather_plans(union: Union, version: Path) -> None:
    for capability, owner in union.owners.items():
        shutil.copy(owner.plans()[capability], version / layout.plan_filename(capability))


def _publish(union: Union, folder: Path, repository: Path) -> Merged:
    first = union.sources[0]
    published = publish.publish(
        repository,
        staging.StagedStep(first.preprocess, folder / "preprocess"),
        staging.StagedNetwork(first.network, folder / "network", partial(_render_network, union)),
        staging.StagedEnsemble(first.name, folder / "ensemble", partial(_render_ensemble, union), _built_from(union)),
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
    model = _renumbered(union, "network", version)
    model.name = name
    for capability in union.owners:
        model.cc_model_filenames[capability] = layout.plan_filename(capability)
    return model_config.to_text(model)


def _render_ensemble(union: Union, network: str, version: int) -> str:
    model = _renumbered(union, "ensemble", version)
    for step in model.ensemble_scheduling.step:
        if step.model_name == union.sources[0].network:
            step.model_name, step.model_version = network, version
    return model_config.to_text(model)


def _renumbered(union: Union, role: str, version: int) -> Any:
    """The first source's config as that of another version, with what every source recorded."""
    first = union.sources[0]
    model = type(first.configs[role])()
    model.CopyFrom(first.configs[role])
    model.version_policy.specific.versions[:] = [version]
    for output in model.output:
        if output.label_filename:
            output.label_filename = f"{version}/{LABELS}"
    if union.owners:
        model.parameters.clear()
        for key, value in _recorded(union, role).items():
            model.parameters[key].string_value = value
    return model


def _recorded(union: Union, role: str) -> dict[str, str]:
    facts = union.sources[0].shared_facts(role)
    for capability, owner in union.owners.items():
        facts |= {f"{key}_{capability}": value for key, value in owner.facts_of(role, capability).items()}
    return facts
