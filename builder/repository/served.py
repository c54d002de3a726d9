"""What a repository serves, and what it records of how that was built."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import BuilderError, ConfigError, RepositoryError
from builder.repository import layout, lock, names
from builder.repository.layout import role_of
from builder.triton import model_config

# What the configs record of one build on one machine. The rest must agree between the plans of a model.
OF_ONE_BUILD = {
    "gpu",
    "compute_capability",
    "driver",
    "plan_builder",
    "optimum_batch_size",
    "artifact_sha256",
    "builder",
    "built_at",
    "noise",
    "torch_version",
    "onnx_version",
}
MEASURED = ("_error", "_agreement", "_accuracy")
REQUIREMENTS = "requirements"
"""Of a step: what pip is to install for it, such as `pillow==13.0.0`; by spaces."""
DEFAULT_REQUIREMENTS = "pillow"
"""Of preprocessing steps that were published before they recorded theirs."""


@dataclass(frozen=True)
class Part:
    """One of the Triton models that a served model consists of."""

    repository: Path
    role: str
    name: str
    version: int
    config: Any

    @property
    def model(self) -> Path:
        """Its folder, which has the versions and what warms it up."""
        return self.repository / self.name

    @property
    def folder(self) -> Path:
        """Of the version that is served."""
        return self.model / str(self.version)

    @property
    def facts(self) -> dict[str, str]:
        """What its config records."""
        return {key: value.string_value for key, value in self.config.parameters.items()}

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Compute capabilities that it has plans for, `major.minor`."""
        return tuple(sorted(self.config.cc_model_filenames))


@dataclass(frozen=True)
class Served:
    """A model as one repository serves it: an ensemble of steps around a network, or the network by itself."""

    network: Part
    ensemble: Part | None = None
    steps: tuple[Part, ...] = ()
    """Each once, in the order in which the ensemble asks them."""

    @property
    def asked(self) -> Part:
        """What clients ask."""
        return self.ensemble or self.network

    @property
    def parts(self) -> tuple[Part, ...]:
        return (*([self.ensemble] if self.ensemble else []), *self.steps, self.network)

    @property
    def repository(self) -> Path:
        return self.network.repository

    @property
    def name(self) -> str:
        return self.asked.name

    @property
    def version(self) -> int:
        return self.asked.version

    @property
    def task(self) -> str:
        """What it is for."""
        return self.asked.facts.get(layout.TASK, layout.UNSAID[layout.TASK])

    @property
    def backend(self) -> str:
        """Triton's name of what runs the network."""
        return str(self.network.config.backend)

    @property
    def needs_gpu(self) -> bool:
        return any(group.kind == group.KIND_GPU for group in self.network.config.instance_group)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Compute capabilities of the GPUs that it runs on, `major.minor`; none: on any."""
        compiled = self.network.facts.get("compute_capability")
        return self.network.capabilities or ((compiled,) if compiled else ())

    @property
    def artifact_bytes(self) -> int:
        """Of the version that is served, all plans included."""
        return sum(file.stat().st_size for file in self.network.folder.rglob("*") if file.is_file())

    def plans(self) -> dict[str, Path]:
        """By compute capability."""
        files = self.network.config.cc_model_filenames
        return {capability: self.network.folder / files[capability] for capability in self.network.capabilities}

    def shared_facts(self, part: Part) -> dict[str, str]:
        """Those that are not of one build. `part` is the network, or the ensemble around it."""
        suffixes = tuple(f"_{capability}" for capability in self.network.capabilities)
        return {
            key: value
            for key, value in part.facts.items()
            if not is_of_one_build(key) and not (suffixes and key.endswith(suffixes))
        }

    def facts_of(self, part: Part, capability: str) -> dict[str, str]:
        """Those of the build of one plan, which a merged config tells apart by `_<capability>`."""
        facts, suffix = part.facts, f"_{capability}"
        merged = {key.removesuffix(suffix): value for key, value in facts.items() if key.endswith(suffix)}
        return merged or {
            key: value for key, value in facts.items() if is_of_one_build(key) and key != "compute_capability"
        }


def read_repository(repository: Path, error: type[BuilderError] = RepositoryError) -> list[Served]:
    """The models that a repository serves, by name, at least one. Raises `error`."""
    if not repository.is_dir():
        raise error(f"{repository} is no repository; give the folders that build-repo wrote with -r")
    names = [folder.name for folder in sorted(repository.iterdir()) if role_of(folder) in layout.SERVED_ROLES]
    if not names:
        raise error(f"{repository} has no models of build-repo; build some first: build-repo -r {repository}")
    return [_read(repository, name, error) for name in names]


def read_intact(repository: Path, error: type[BuilderError] = RepositoryError) -> list[Served]:
    """The same, of a repository that is what was recorded of it. Raises `error`, RepositoryError."""
    models = read_repository(repository, error)
    lock.require_intact(repository)
    return models


def retired(repository: Path) -> set[str]:
    """Names of our models that nothing which is served needs: only former versions do, or a build that died."""
    return names.retired(repository)


def digest(models: Sequence[Served]) -> str:
    """Of all that is served, by its configs, which record the artifacts' hashes: another one is to be rolled out."""
    found = hashlib.sha256()
    for model in models:
        found.update(f"{model.name!r} {model.version}\n".encode())
        for part in sorted(model.parts, key=lambda part: part.role):
            found.update(part.config.SerializeToString(deterministic=True))
    return found.hexdigest()


def _read(repository: Path, name: str, kind: type[BuilderError]) -> Served:
    try:
        config = model_config.read(repository / name / layout.CONFIG)
        role, version = config.parameters[layout.ROLE].string_value, max(config.version_policy.specific.versions)
        asked = Part(repository, role, name, version, config)
        served = Served(asked) if role == layout.MODEL else _around(asked)
    except (OSError, ConfigError, ValueError) as error:
        raise kind(f"{name} in {repository} is not whole ({error!r}); build it again") from None
    for capability, plan in served.plans().items():
        if not plan.is_file():
            raise kind(f"{name} in {repository} lacks its plan for {capability}, {plan}; build it again")
    return served


def _around(ensemble: Part) -> Served:
    """What the ensemble asks. Raises OSError, ConfigError, and ValueError if that is not one network and steps."""
    called = {part.name: part for part in _called(ensemble)}.values()
    (network,) = [part for part in called if part.role == layout.NETWORK]
    return Served(network, ensemble, tuple(part for part in called if part is not network))


def _called(ensemble: Part) -> Iterator[Part]:
    for call in ensemble.config.ensemble_scheduling.step:
        name, version = call.model_name, call.model_version
        role = role_of(ensemble.repository / name)
        if role not in (layout.NETWORK, *layout.STEP_ROLES):
            raise ValueError(f"it asks {name}, which is no step of build-repo's")
        # The version's own: the one beside the versions may be of a build that is publishing now. Steps have one.
        own = str(version) if role == layout.NETWORK else ""
        config = model_config.read(ensemble.repository / name / own / layout.CONFIG)
        yield Part(ensemble.repository, role, name, version, config)


def requirements(models: Sequence[Served]) -> tuple[str, ...]:
    """What pip is to install for the steps, such as `pillow==13.0.0`, by name."""
    recorded = [_requirements(step) for model in models for step in model.steps]
    return tuple(sorted({line for text in recorded for line in text.split()}))


def _requirements(step: Part) -> str:
    return step.facts.get(REQUIREMENTS, DEFAULT_REQUIREMENTS if step.role == layout.PREPROCESS else "")


def steps_of(models: Sequence[Served]) -> dict[str, Part]:
    """The steps of all, by name: those that several models ask are loaded once."""
    return {step.name: step for model in models for step in model.steps}


def recorded(models: Sequence[Served], fact: str) -> tuple[str, ...]:
    """The different values that the networks record of a fact, such as torch_version; of every plan."""
    name = re.compile(rf"{re.escape(fact)}(_\d+\.\d+)?")
    return tuple(
        sorted({value for model in models for key, value in model.network.facts.items() if name.fullmatch(key)})
    )


def is_of_one_build(key: str) -> bool:
    """Whether two builds of the same may differ in what their configs record under this key."""
    return key in OF_ONE_BUILD or key.endswith(MEASURED)
