"""The network itself, and what it gives, for artifacts to be held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from builder import networks
from builder.build import stage
from builder.build.entry import Entry, resolve_labels, resolve_recipe
from builder.data.images import Evaluation, Picture, evaluation, find, true_classes, unlabelled
from builder.data.recipe import PreprocessRecipe
from builder.data.sets import ImageSet
from builder.errors import ManifestError, VerificationError
from builder.networks.card import require_own
from builder.networks.classifier import as_classifier
from builder.networks.making import is_lazy, settled
from builder.steps import PREPROCESSORS, proof
from builder.tasks import scores, truths, verify
from builder.types import Network, NetworkRequest, Report

if TYPE_CHECKING:
    import torch


MIN_IMAGES = 8


@dataclass(frozen=True)
class Reference:
    """What the network itself gives, for artifacts to be held to."""

    recipe: PreprocessRecipe
    pictures: list[Picture]
    images: Evaluation
    probabilities: list[torch.Tensor]
    """float32 [images, classes] for each of the batch sizes"""
    labels: tuple[str, ...] | None
    trained: bool
    provenance: dict[str, str]
    warnings: tuple[str, ...] = ()
    """What may be right, and more often is not."""

    @property
    def classes(self) -> int:
        return self.probabilities[0].shape[1]


def study(entry: Entry, report: Report) -> tuple[torch.nn.Module, Reference]:
    """The network as a classifier, and all that its artifacts are held to. Raises BuilderError."""
    report("making the network")
    network = make_network(entry)
    recipe = resolve_recipe(entry, network)
    if remark := recipe.remark():
        report(f"note: {remark}")
    report("preprocessing the evaluation images")
    found = _pictures(entry, "images", entry.spec.images)
    check_preprocessing(entry, recipe, found)
    images = evaluation(found, recipe, max(MIN_IMAGES, entry.spec.max_batch_size))
    report("running the network")
    module = as_classifier(network.module, entry.spec.activation)
    scored = run_network(entry, module, images)
    probabilities = as_probabilities(entry, module, scored)
    classes = probabilities[0].shape[1]
    labels = resolve_labels(entry, network, classes)
    images = replace(images, classes=_true_classes(entry, images, labels, classes))
    warnings = _remarks(entry, module, scored[-1], images, labels, network.trained)
    provenance = dict(network.provenance)
    return module, Reference(recipe, found, images, probabilities, labels, network.trained, provenance, warnings)


def make_network(entry: Entry) -> Network:
    spec = entry.spec
    request = NetworkRequest(spec.network, entry.weights, spec.arguments, entry.manifest.path.parent)
    if entry.card and entry.weights.path:
        require_own(entry.card, entry.weights.path)
    network = networks.find(spec.network).make(request)
    if is_lazy(network.module):
        shape = resolve_recipe(entry, network).shape
        network = replace(network, module=settled(network.module, shape, entry.weights.seed, spec.network))
    if entry.card:
        scalars = {key: value for key, value in entry.card.metrics.items() if isinstance(value, int | float)}
        facts = {f"training_{key}": f"{value:.6g}" for key, value in scalars.items()}
        provenance = network.provenance | {"training_data": str(entry.card.data.get("name", ""))} | facts
        network = replace(network, recipe=entry.card.recipe, labels=entry.card.labels, provenance=provenance)
    return network


def _pictures(entry: Entry, key: str, images: ImageSet | None) -> list[Picture]:
    try:
        return find(images, entry.manifest.path.parent)
    except ManifestError as error:
        raise entry.manifest.error(str(error), "models", entry.name, key) from None


def _true_classes(
    entry: Entry, images: Evaluation, labels: tuple[str, ...] | None, classes: int
) -> tuple[int | None, ...]:
    try:
        return true_classes(images, labels, classes)
    except ManifestError as error:
        raise entry.manifest.error(str(error), "models", entry.name, "images") from None


def check_preprocessing(entry: Entry, recipe: PreprocessRecipe, found: Sequence[Picture]) -> None:
    """Hold the served step to the reference transform on the evaluation images. Raises BuilderError."""
    import numpy as np

    served = PREPROCESSORS[stage.PREPROCESSOR].function(recipe)
    reference = recipe.reference_transform()
    for picture in found[:MIN_IMAGES]:
        try:
            expected = reference(picture.decode(recipe)).numpy()
            tensor = served(picture.read())
        except ValueError as error:
            message = f"the recipe refuses {picture.name}: {error}"
            raise entry.manifest.error(message, "models", entry.name, "preprocess") from None
        except ManifestError as error:
            raise entry.manifest.error(str(error), "models", entry.name, "images") from None
        if not np.array_equal(tensor, expected):
            raise VerificationError(
                f"{entry.name}: the served preprocessing differs from torchvision's on {picture.name}"
            )
    if difference := proof.difference(recipe, PREPROCESSORS[stage.PREPROCESSOR]):
        raise VerificationError(f"{entry.name}: {difference}")


def run_network(entry: Entry, module: torch.nn.Module, images: Evaluation) -> list[torch.Tensor]:
    """The network's own scores, by batch size. Raises BuilderError."""
    import torch

    torch.set_num_threads(entry.build_threads)
    try:
        with torch.inference_mode():
            return scores.scores_of(module, images, verify.batch_sizes(entry.spec.max_batch_size), entry.name)
    except ManifestError as error:
        raise entry.manifest.error(str(error), "models", entry.name, "images") from None


def as_probabilities(entry: Entry, module: torch.nn.Module, scored: list[torch.Tensor]) -> list[torch.Tensor]:
    """What artifacts are held to, once it is known to be answers. Raises VerificationError."""
    scores.require_several(scored[0].shape[1], entry.spec.activation, entry.name)
    probabilities = [module.activation(rows) for rows in scored]  # type: ignore[operator]
    for rows in probabilities:
        verify.require_probabilities(rows, entry.name)
    scores.require_independence(module, scored, entry.name)
    return probabilities


def _remarks(
    entry: Entry,
    module: torch.nn.Module,
    scored: torch.Tensor,
    images: Evaluation,
    labels: tuple[str, ...] | None,
    trained: bool,
) -> tuple[str, ...]:
    """What to warn of. Raises VerificationError for what is certainly wrong."""
    found = scores.remarks(module, scored, next(images.batches(1)), trained, entry.name)
    found += unlabelled(images)
    if trained:  # random weights are right by chance
        found += truths.remarks(scored.argmax(1).tolist(), images.classes, scored.shape[1], labels)
    return tuple(found)
