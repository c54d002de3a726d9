"""What a manifest asks for, checked against the registries before anything is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from builder import networks
from builder.data import labels
from builder.data.recipe import PreprocessRecipe, resolved
from builder.errors import ManifestError, NetworkError, WeightsError
from builder.exporters import EXPORTERS, Exporter, alternatives
from builder.machine.cores import granted_cores
from builder.manifest.models import Manifest, ModelSpec
from builder.networks.card import Card, absolute, card_path, read_card, relative
from builder.tasks import verify
from builder.tasks.limits import Tolerance
from builder.types import Network, Target, WeightsSource
from builder.util import texts

# Keys of the recipe that say what the server accepts, not what the network sees.
SERVERS_OWN = {"max_bytes", "max_pixels", "frames"}
LONGEST_FOLDER = 255
"""Bytes of a name on Linux's filesystems."""
LONGEST_MARK = "_v1000000"
"""Of a version with other inputs or outputs than those before it."""


@dataclass(frozen=True)
class Entry:
    """One entry of the manifest, checked as far as it can be without making the network."""

    name: str
    spec: ModelSpec
    manifest: Manifest
    weights: WeightsSource
    card: Card | None = None
    """Of the entry's weights, if they were trained here; network, recipe and labels are its."""
    cores: int = field(default_factory=granted_cores)
    """Of the server's machine, for which the configs are written: one like that which resolves."""
    build_cores: int | None = None
    """Those that the build may use; None: all that are granted."""

    @property
    def exporter(self) -> Exporter:
        return EXPORTERS[self.spec.format]

    @property
    def network_model(self) -> str:
        """Its Triton model's name: one config describes all versions, so precisions are models of their own."""
        return _network_model(self.name, self.spec)

    @property
    def target(self) -> Target:
        threads = self.spec.threads or max(1, self.cores // self.spec.instances)
        return Target(self.spec.precision, self.spec.device, threads, self.spec.max_batch_size, self.spec.tensorrt)

    @property
    def checked_target(self) -> Target:
        """As verification runs the artifact."""
        return replace(self.target, threads=self.build_threads)

    @property
    def build_threads(self) -> int:
        return self.build_cores or granted_cores()

    @property
    def limits(self) -> Tolerance:
        return verify.limits(self.spec.precision, self.spec.tolerance)


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
    steps = {p.network_model: p.name for p in entries}
    for name in manifest.models:
        if name in steps and steps[name] != name:
            raise manifest.error(
                f"the network of {steps[name]!r} is published under this name; choose another", "models", name
            )
    return entries


def _resolve_one(manifest: Manifest, name: str, override: str | None) -> Entry:
    card = _card(manifest, name, override)
    spec = _as_trained(manifest, name, card) if card else manifest.models[name]
    where = ("models", name)
    try:
        networks.find(spec.network)
    except NetworkError as error:
        _require_card(manifest, name)
        raise NetworkError(str(manifest.error(str(error), *where, "network"))) from None
    if spec.format not in EXPORTERS:
        raise manifest.error(f"there is no format {spec.format!r}; choose {', '.join(EXPORTERS)}", *where, "format")
    _check_name(manifest, name, spec)
    _check_arguments(manifest, name, spec)
    _check_precision(manifest, name, spec)
    _check_labels(manifest, name, spec)
    cores = granted_cores()
    if spec.device == "cpu" and spec.threads and spec.threads * spec.instances > cores:
        raise manifest.error(
            f"{spec.instances} instances of {spec.threads} threads need {spec.instances * spec.threads} cores, and "
            f"{cores} are granted here; leave threads out, or lower one of them",
            *where,
            "threads",
        )
    source = manifest.weights_source(name, override) or _default_weights(manifest, name)
    planned = Entry(name, spec, manifest, source, card)
    if networks.callables.matches(spec.network) and not card and not source.path:
        recipe_with(planned, None)  # nothing will bring one along
    return planned


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
            raise manifest.error(_contradiction(trained), "models", name, key)
    if spec.activation != "softmax":
        raise manifest.error("these weights were trained to give logits; leave activation out", "models", name)
    return spec.model_copy(update=changes | {"network": relative(card.network, manifest.path.parent)})


def _contradiction(trained: Any) -> str:
    return f"these weights were trained with {trained}; leave the key out, since their card says it"


def _check_name(manifest: Manifest, name: str, spec: ModelSpec) -> None:
    """Raise ManifestError for a name that folders cannot have, once it is a network's with a version."""
    folder = f"{_network_model(name, spec)}{LONGEST_MARK}"
    if len(folder) > LONGEST_FOLDER:
        raise manifest.error(
            f"the name is too long by {len(folder) - LONGEST_FOLDER}: a folder's has {LONGEST_FOLDER} bytes at most, "
            "and the network's adds format, precision and version",
            "models",
            name,
        )


def _check_arguments(manifest: Manifest, name: str, spec: ModelSpec) -> None:
    known = networks.find(spec.network).arguments(spec.network)
    for key in spec.arguments:
        if known is not None and key not in known:
            raise manifest.error(
                f"{spec.network} has no such argument; it takes {', '.join(known)}", "models", name, "arguments", key
            )


def _check_precision(manifest: Manifest, name: str, spec: ModelSpec) -> None:
    where = ("models", name)
    target = Target(spec.precision, spec.device)
    possible = EXPORTERS[spec.format].PRECISIONS.get(spec.device, ())
    key = "precision" if possible else "format"
    if spec.precision not in possible:
        raise manifest.error(
            f"{spec.format} cannot be built as {target}; {alternatives(target, spec.format)}", *where, key
        )
    if spec.precision == "int8" and spec.calibration is None:
        raise manifest.error(
            "int8 needs `calibration: {data: DIR, samples: 256}`: images like those to come, of which it learns the "
            "ranges of the activations, and not those of `images`",
            *where,
            "precision",
        )
    optimum = spec.tensorrt.optimum_batch_size
    if optimum and optimum > spec.max_batch_size:
        message = f"the largest batch is {spec.max_batch_size}, see max_batch_size"
        raise manifest.error(message, *where, "tensorrt", "optimum_batch_size")


def _check_labels(manifest: Manifest, name: str, spec: ModelSpec) -> None:
    """Of files only a name without a suffix is looked for: it may be a set's that was misspelt."""
    file = spec.labels_file
    if file and labels.is_word(str(spec.labels)) and not manifest.resolve(file).exists():
        raise manifest.error(labels.unknown(str(spec.labels)), "models", name, "labels")


def _default_weights(manifest: Manifest, name: str) -> WeightsSource:
    network = manifest.models[name].network
    default = networks.find(network).DEFAULT_WEIGHTS
    if default is None:
        own = ", included (your callable loads them itself)" if networks.callables.matches(network) else ""
        raise manifest.error(f"weights: is needed: a state-dict file{own}, or random", "models", name)
    return WeightsSource("named", default)


def resolve_recipe(entry: Entry, network: Network) -> PreprocessRecipe:
    """The weights' recipe with the entry's changes. Raises ManifestError.

    A card that is older than a key says nothing of it: the entry may.
    """
    overrides = entry.spec.preprocess
    where = ("models", entry.name, "preprocess")
    trained = entry.card.recipe if entry.card else None
    for key in (overrides.model_fields_set - SERVERS_OWN) & trained.model_fields_set if trained else ():
        if getattr(overrides, key) != getattr(trained, key):
            raise entry.manifest.error(_contradiction(getattr(trained, key)), *where, key)
    return recipe_with(entry, network.recipe)


def recipe_with(entry: Entry, own: PreprocessRecipe | None) -> PreprocessRecipe:
    """A network's own recipe, if it has one, with the entry's changes. Raises ManifestError."""
    overrides = entry.spec.preprocess
    where = ("models", entry.name, "preprocess")
    if own is None and not overrides.model_fields_set:
        raise entry.manifest.error(
            "preprocess: is needed, since nothing else tells how your network was trained; ImageNet's is "
            "{channels: 3, resize: 256, crop: 224, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}",
            *where[:-1],
        )
    try:
        return resolved(own, overrides)
    except ValueError as error:
        raise entry.manifest.error(str(error), *where) from None


def resolve_labels(entry: Entry, network: Network, classes: int) -> tuple[str, ...] | None:
    """One label a class, or None. Raises ManifestError."""
    where = ("models", entry.name, "labels")
    given = _labels_given(entry)
    found = given if given is not None else network.labels
    if entry.card and found != entry.card.labels:
        raise entry.manifest.error(_contradiction(f"{len(entry.card.labels)} others"), *where)
    if found is not None and len(found) != classes:
        whose = f"; {entry.spec.labels} is a set for other networks" if entry.spec.labels in labels.SETS else ""
        raise entry.manifest.error(
            f"there are {len(found)} labels for {classes} classes; give one a class{whose}", *where
        )
    if found is not None and any("\n" in label or not label for label in found):
        raise entry.manifest.error("a label is one line of text and not empty", *where)
    return found


def _labels_given(entry: Entry) -> tuple[str, ...] | None:
    """What the entry itself says, read. Raises ManifestError."""
    said = entry.spec.labels
    if not isinstance(said, str):
        return said
    if said in labels.SETS:
        return labels.SETS[said]()
    try:
        return _labels_in(entry.manifest.resolve(Path(said)))
    except (OSError, ValueError) as error:
        hint = "; the path is relative to the manifest" if isinstance(error, OSError) else ""
        raise entry.manifest.error(
            f"the labels cannot be read: {_file_error(error)}{hint}", "models", entry.name, "labels"
        ) from None


def _labels_in(path: Path) -> tuple[str, ...]:
    """One a line. Raises OSError, ValueError."""
    text = texts.read(path)
    if "\0" in text:
        raise texts.NotUtf8(f"{path} has bytes of zero between its letters, as UTF-16 has; save it as UTF-8")
    return tuple(text.splitlines())


def _file_error(error: Exception) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
