"""What a repository serves, and what it records of how that was built."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import BuilderError, ConfigError, RepositoryError
from builder.repository import layout, lock
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
DEFAULT_REQUIREMENTS = "pillow"
"""Of preprocessing steps that were published before they recorded theirs."""


@dataclass(frozen=True)
class Served:
    """A model as one repository serves it."""

    repository: Path
    name: str
    version: int
    preprocess: str
    network: str
    network_version: int
    configs: dict[str, Any]
    """By role: ensemble, preprocess and network."""

    @property
    def backend(self) -> str:
        """Triton's name of what runs the network."""
        return str(self.configs["network"].backend)

    @property
    def needs_gpu(self) -> bool:
        kinds = self.configs["network"].instance_group
        return any(group.kind == group.KIND_GPU for group in kinds)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Compute capabilities of the GPUs that it runs on, `major.minor`; none: on any."""
        compiled = self.facts("network").get("compute_capability")
        return tuple(sorted(self.configs["network"].cc_model_filenames)) or ((compiled,) if compiled else ())

    @property
    def artifact_bytes(self) -> int:
        """Of the version that is served, all plans included."""
        return sum(file.stat().st_size for file in self.folder("network").iterdir() if file.is_file())

    def folder(self, role: str) -> Path:
        """The version folder of the ensemble or of the network."""
        places = {"ensemble": (self.name, self.version), "network": (self.network, self.network_version)}
        model, version = places[role]
        return self.repository / model / str(version)

    def plans(self) -> dict[str, Path]:
        """By compute capability."""
        files = self.configs["network"].cc_model_filenames
        return {capability: self.folder("network") / files[capability] for capability in sorted(files)}

    def facts(self, role: str) -> dict[str, str]:
        return {key: value.string_value for key, value in self.configs[role].parameters.items()}

    def shared_facts(self, role: str) -> dict[str, str]:
        """Those that are not of one build."""
        suffixes = tuple(f"_{capability}" for capability in self.configs["network"].cc_model_filenames)
        return {
            key: value
            for key, value in self.facts(role).items()
            if not _is_of_one_build(key) and not (suffixes and key.endswith(suffixes))
        }

    def facts_of(self, role: str, capability: str) -> dict[str, str]:
        """Those of the build of one plan, which a merged config tells apart by `_<capability>`."""
        facts, suffix = self.facts(role), f"_{capability}"
        merged = {key.removesuffix(suffix): value for key, value in facts.items() if key.endswith(suffix)}
        return merged or {
            key: value for key, value in facts.items() if _is_of_one_build(key) and key != "compute_capability"
        }


def read_repository(repository: Path, error: type[BuilderError] = RepositoryError) -> list[Served]:
    """The models that a repository serves, by name, at least one. Raises `error`."""
    if not repository.is_dir():
        raise error(f"{repository} is no repository; give the folders that build-repo wrote with -r")
    names = [folder.name for folder in sorted(repository.iterdir()) if role_of(folder) == "ensemble"]
    if not names:
        raise error(f"{repository} has no models of build-repo; build some first: build-repo -r {repository}")
    return [_read(repository, name, error) for name in names]


def read_intact(repository: Path, error: type[BuilderError] = RepositoryError) -> list[Served]:
    """The same, of a repository that is what was recorded of it. Raises `error`, RepositoryError."""
    models = read_repository(repository, error)
    lock.require_intact(repository)
    return models


def digest(models: Sequence[Served]) -> str:
    """Of all that is served, by its configs, which record the artifacts' hashes: another one is to be rolled out."""
    found = hashlib.sha256()
    for model in models:
        found.update(f"{model.name!r} {model.version}\n".encode())
        for role in sorted(model.configs):
            found.update(model.configs[role].SerializeToString(deterministic=True))
    return found.hexdigest()


def _read(repository: Path, name: str, kind: type[BuilderError]) -> Served:
    try:
        ensemble = model_config.read(repository / name / layout.CONFIG)
        steps = {role_of(repository / step.model_name): step for step in ensemble.ensemble_scheduling.step}
        preprocess, network = steps["preprocess"], steps["network"]
        configs = {
            "ensemble": ensemble,
            "preprocess": model_config.read(repository / preprocess.model_name / layout.CONFIG),
            # The version's own: the one beside the versions may be of a build that is publishing now.
            "network": model_config.read(repository / network.model_name / str(network.model_version) / layout.CONFIG),
        }
        version = max(ensemble.version_policy.specific.versions)
    except (OSError, ConfigError, KeyError, ValueError) as error:
        raise kind(f"{name} in {repository} is not whole ({error!r}); build it again") from None
    served = Served(
        repository, name, version, preprocess.model_name, network.model_name, network.model_version, configs
    )
    for capability, plan in served.plans().items():
        if not plan.is_file():
            raise kind(f"{name} in {repository} lacks its plan for {capability}, {plan}; build it again")
    return served


def requirements(models: Sequence[Served]) -> tuple[str, ...]:
    """What pip is to install for the preprocessing steps, such as `pillow==13.0.0`, by name."""
    recorded = [model.facts("preprocess").get("requirements", DEFAULT_REQUIREMENTS) for model in models]
    return tuple(sorted({line for text in recorded for line in text.split()}))


def recorded(models: Sequence[Served], fact: str) -> tuple[str, ...]:
    """The different values that the networks record of a fact, such as torch_version; of every plan."""
    name = re.compile(rf"{re.escape(fact)}(_\d+\.\d+)?")
    return tuple(
        sorted({value for model in models for key, value in model.facts("network").items() if name.fullmatch(key)})
    )


def _is_of_one_build(key: str) -> bool:
    return key in OF_ONE_BUILD or key.endswith(MEASURED)
