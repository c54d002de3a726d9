"""What a manifest asks for, checked against the registries before anything is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from builder import networks
from builder.build import artifact_entry
from builder.data import labels
from builder.errors import ManifestError, NetworkError, WeightsError
from builder.exporters import EXPORTERS, Exporter, alternatives
from builder.machine.cores import granted_cores
from builder.manifest.models import Manifest
from builder.networks.card import Card, absolute, card_path, read_card, relative
from builder.tasks import TASKS
from builder.tasks.spec import ModelSpec
from builder.tasks.task import Task
from builder.types import Artifact, Target, WeightsSource

LONGEST_FOLDER = 255
"""Bytes of a name on Linux's filesystems."""
LONGEST_MARK = "_v1000000"
"""Of a version with other inputs or outputs than those before it."""


@dataclass(frozen=True)
class Entry:
    """One entry of the manifest, checked as far as it can be without making the network."""

    name: str
    spec: Any
    """Of the task's own SPEC."""
    manifest: Manifest
    weights: WeightsSource
    card: Card | None = None
    """Of the entry's weights, if they were trained here; network, recipe and labels are its."""
    cores: int = field(default_factory=granted_cores)
    """Of the server's machine, for which the configs are written: one like that which resolves."""
    build_cores: int | None = None
    """Those that the build may use; None: all that are granted."""
    artifact: Artifact | None = None
    """The user's own, in place of a network."""
    inputs: dict[str, dict[str, str]] | None = None
    """What is to be recorded as read (see inputs.py), where another machine builds it; None: what the build reads."""

    @property
    def needs_calibration(self) -> bool:
        """Whether int8 is made here, of ranges that are learnt."""
        if self.artifact and self.is_adopted:
            return artifact_entry.is_calibrated(self.artifact, self.spec.precision)
        return bool(self.spec.precision == "int8")

    @property
    def is_adopted(self) -> bool:
        """Whether the user's own file is published, rather than one that is exported here."""
        return self.artifact is not None and not self.artifact.is_program

    @property
    def task(self) -> Task:
        return TASKS[self.spec.task]

    @property
    def exporter(self) -> Exporter:
        return EXPORTERS[self.spec.format]

    @property
    def base(self) -> Path:
        """The manifest's folder, which paths are relative to."""
        return self.manifest.path.parent

    @property
    def network_model(self) -> str:
        """Its Triton model's name: one config describes all versions, so precisions are models of their own."""
        return _network_model(self.name, self.spec)

    @property
    def published_names(self) -> tuple[str, ...]:
        """Of the Triton models that are its own: the one that clients ask, and the network where that is another."""
        is_alone = self.exporter.NAMES_TENSORS and not self.task.HAS_STEPS
        return (self.name,) if is_alone else (self.name, self.network_model)

    @property
    def target(self) -> Target:
        spec: ModelSpec = self.spec
        threads = spec.threads or max(1, self.cores // spec.instances)
        return Target(spec.precision, spec.device, threads, spec.max_batch_size, getattr(spec, spec.format, None))

    @property
    def checked_target(self) -> Target:
        """As verification runs the artifact."""
        return replace(self.target, threads=self.build_threads)

    @property
    def build_threads(self) -> int:
        return self.build_cores or granted_cores()

    def error(self, message: str, *keys: str | int) -> ManifestError:
        """One that names the file, the line and the key of this entry."""
        return self.manifest.error(message, "models", self.name, *keys)

    @contextmanager
    def at(self, *keys: str | int) -> Iterator[None]:
        """Within it, a ManifestError without a place is given that of this entry's key."""
        try:
            yield
        except ManifestError as error:
            if error.has_place:
                raise
            raise self.error(str(error), *keys) from None


def _network_model(name: str, spec: ModelSpec) -> str:
    precision = "" if spec.precision == "fp32" else f"_{spec.precision}"
    return f"{name}_{spec.format}{precision}"


def resolve(manifest: Manifest, selection: Sequence[str] = (), weights: str | None = None) -> list[Entry]:
    """What is to be built: the selected entries, or all. Raises ManifestError, NetworkError, WeightsError."""
    for name in selection:
        if name not in manifest.models:
            known = ", ".join(manifest.models)
            raise ManifestError(f"{manifest.path} has no model {name!r}; it has {known}")
    if weights and not labels.is_text(weights):
        raise WeightsError(
            f"--weights {weights}: the path is no UTF-8, so that no config can record it; rename the file"
        )
    entries = [_resolve_one(manifest, name, weights) for name in selection or manifest.models]
    owners = {name: entry.name for entry in entries for name in entry.published_names[1:]}
    for name in manifest.models:
        if owners.get(name, name) != name:
            raise manifest.error(
                f"the network of {owners[name]!r} is published under this name; choose another", "models", name
            )
    return entries


def _resolve_one(manifest: Manifest, name: str, override: str | None) -> Entry:
    spec: ModelSpec = manifest.models[name]
    is_file = spec.artifact is not None or spec.reference is not None
    entry = _of_artifact(manifest, name, override) if is_file else _of_network(manifest, name, override)
    entry.task.require(entry)
    return entry


def _of_artifact(manifest: Manifest, name: str, override: str | None) -> Entry:
    """An entry that brings its own file. Raises ManifestError, NetworkError, WeightsError."""

    def error(message: str, *keys: str | int) -> ManifestError:
        return manifest.error(message, "models", name, *keys)

    spec, artifact = artifact_entry.resolve(
        manifest.models[name], manifest.path.parent, lambda key: manifest.says(name, key), error
    )
    if override:
        raise WeightsError(f"--weights {override}: {name} is an artifact, which holds its weights; build it without")
    entry = Entry(name, spec, manifest, WeightsSource("included", "included"), artifact=artifact)
    for check in (_check_name, _check_threads, *((_check_precision,) if not entry.is_adopted else ())):
        check(entry)
    return entry


def _of_network(manifest: Manifest, name: str, override: str | None) -> Entry:
    card = _card(manifest, name, override)
    spec = _as_trained(manifest, name, card) if card else manifest.models[name]
    _require_network(manifest, name, spec)
    if spec.format not in EXPORTERS:
        known = ", ".join(EXPORTERS)
        raise manifest.error(f"there is no format {spec.format!r}; choose {known}", "models", name, "format")
    source = manifest.weights_source(name, override) or _default_weights(manifest, name)
    entry = Entry(name, spec, manifest, source, card)
    for check in (_check_name, _check_arguments, _check_precision, _check_threads):
        check(entry)
    return entry


def _require_network(manifest: Manifest, name: str, spec: ModelSpec) -> None:
    try:
        networks.find(spec.network)
    except NetworkError as error:
        _require_card(manifest, name)
        raise NetworkError(str(manifest.error(str(error), "models", name, "network"))) from None


def _require_card(manifest: Manifest, name: str) -> None:
    """Raise WeightsError for an entry that leaves its network to a card, where there is none."""
    source = manifest.weights_source(name)
    if manifest.says(name, "network") or not (source and source.path):
        return
    if source.path.exists():
        missing = f"{card_path(source.path).name} is not beside it, so that nothing tells its network; give network:"
    else:
        missing = "does not exist; train it with `build-repo train`, or correct the path"
    raise WeightsError(str(manifest.error(f"{source.path} {missing}", "models", name, "weights")))


def _card(manifest: Manifest, name: str, override: str | None) -> Card | None:
    """That of the weights, or, if random ones are tried in their place, of the entry's own."""
    source = manifest.weights_source(name, None if override == "random" else override)
    try:
        return read_card(source.path) if source and source.path else None
    except WeightsError as error:
        raise WeightsError(str(manifest.error(str(error), "models", name, "weights"))) from None


def _as_trained(manifest: Manifest, name: str, card: Card) -> ModelSpec:
    """The entry with what the card says. Raises ManifestError where the entry says something else."""
    spec = manifest.models[name]
    changes: dict[str, Any] = {"network": card.network, "arguments": card.arguments}
    given = {"network": absolute(spec.network, manifest.path.parent), "arguments": spec.arguments}
    for key, trained in changes.items():
        if manifest.says(name, key) and given[key] != trained:
            message = f"these weights were trained with {trained}; leave the key out, since their card says it"
            raise manifest.error(message, "models", name, key)
    changed: ModelSpec = spec.model_copy(update=changes | {"network": relative(card.network, manifest.path.parent)})
    return changed


def _check_name(entry: Entry) -> None:
    """Raise ManifestError for a name that folders cannot have, once it is a network's with a version."""
    folder = f"{entry.network_model}{LONGEST_MARK}"
    if len(folder) > LONGEST_FOLDER:
        raise entry.error(
            f"the name is too long by {len(folder) - LONGEST_FOLDER}: a folder's has {LONGEST_FOLDER} bytes at most, "
            "and the network's adds format, precision and version"
        )


def _check_arguments(entry: Entry) -> None:
    network = entry.spec.network
    known = networks.find(network).arguments(network)
    for key in entry.spec.arguments:
        if known is not None and key not in known:
            raise entry.error(f"{network} has no such argument; it takes {', '.join(known)}", "arguments", key)


def _check_precision(entry: Entry) -> None:
    spec: ModelSpec = entry.spec
    target = Target(spec.precision, spec.device)
    possible = entry.exporter.PRECISIONS.get(spec.device, ())
    if spec.precision not in possible:
        key = "precision" if possible else "format"
        raise entry.error(f"{spec.format} cannot be built as {target}; {alternatives(target, spec.format)}", key)
    for name, exporter in EXPORTERS.items():  # of other formats, too, which `compare` would build
        if objection := exporter.objection(getattr(spec, name, None), spec.max_batch_size):
            message, key = objection
            raise entry.error(message, name, key)


def _check_threads(entry: Entry) -> None:
    spec, cores = entry.spec, granted_cores()
    if spec.device == "cpu" and spec.threads and spec.threads * spec.instances > cores:
        raise entry.error(
            f"{spec.instances} instances of {spec.threads} threads need {spec.instances * spec.threads} cores, and "
            f"{cores} are granted here; leave threads out, or lower one of them",
            "threads",
        )


def _default_weights(manifest: Manifest, name: str) -> WeightsSource:
    network = manifest.models[name].network
    default = networks.find(network).DEFAULT_WEIGHTS
    if default is None:
        own = ", included (your callable loads them itself)" if networks.callables.matches(network) else ""
        raise manifest.error(f"weights: is needed: a state-dict file{own}, or random", "models", name)
    return WeightsSource("named", default)
