"""What a classifier itself gives for the evaluation images, once it is known to be answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from builder.data.images import Evaluation, ImageFile, true_classes, unlabelled
from builder.data.recipe import PreprocessRecipe
from builder.networks.artifact import alone
from builder.networks.heads import with_head
from builder.networks.making import settled
from builder.tasks.classification import comparison, scores, truths
from builder.tasks.classification.spec import Classification
from builder.tasks.images.entries import evaluated
from builder.tasks.images.labels import resolve_labels
from builder.tasks.images.preprocessing import resolve_recipe
from builder.tasks.images.running import batch_sizes
from builder.tasks.images.samples import ImageSamples
from builder.tasks.task import Entry, Reference
from builder.triton.interface import own_names
from builder.triton.signature import NETWORK_INPUT, NETWORK_OUTPUT, Signature, TensorSpec
from builder.types import Network, Report

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Details:
    """What classification keeps of its study for later."""

    recipe: PreprocessRecipe
    files: list[ImageFile]
    images: Evaluation
    """What the network was run on, with the true classes where they are known."""
    is_multilabel: bool


def study(entry: Entry, network: Network, report: Report) -> tuple[nn.Module, Reference]:
    """The network as a classifier, and all that its artifacts are held to. Raises BuilderError."""
    spec: Classification = entry.spec
    recipe = resolve_recipe(entry, network)
    files, images = evaluated(entry, network, recipe, report)
    module = _with_head(entry, network, recipe)
    scored = _run(entry, module, images)
    probabilities = _probabilities(entry, module, scored)
    classes = probabilities[0].shape[1]
    labels = resolve_labels(entry, network, classes)
    with entry.at("images"):
        images = replace(images, classes=true_classes(images, labels, classes))
    signature = _signature(network, recipe, classes)
    return module, Reference(
        signature=signature,
        samples=ImageSamples(images, signature.inputs[0].name),
        answers=probabilities,
        trained=network.trained,
        provenance=dict(network.provenance),
        warnings=_remarks(entry, module, scored[-1], images, labels, network.trained),
        labels=labels,
        is_widened=True,
        details=Details(recipe, files, images, spec.is_multilabel),
    )


def head(entry: Entry, network: Network, reference: Reference) -> nn.Module:
    return _with_head(entry, network, reference.details.recipe)


def _with_head(entry: Entry, network: Network, recipe: PreprocessRecipe) -> nn.Module:
    if entry.artifact:
        return as_classifier(alone(network.module), entry.spec.activation)
    module = settled(network.module, recipe.shape, entry.weights.seed, entry.spec.network)
    return as_classifier(module, entry.spec.activation)


def as_classifier(network: nn.Module, activation: str) -> nn.Module:
    """float32 [B, C, H, W] -> probabilities, float32 [B, classes], whatever the network computes its scores in."""
    from torch import nn

    kinds: dict[str, nn.Module] = {"softmax": nn.Softmax(dim=1), "sigmoid": nn.Sigmoid(), "none": nn.Identity()}
    return with_head(network, (NETWORK_INPUT,), _as_float32, kinds[activation])


def _as_float32(scores: Any) -> tuple[torch.Tensor, ...]:
    return (scores.float(),)


def _signature(network: Network, recipe: PreprocessRecipe, classes: int) -> Signature:
    """Under the names that all formats can hold, or those of the user's own file."""
    pixels = TensorSpec(NETWORK_INPUT, "FP32", recipe.shape)
    own = Signature((pixels,), (TensorSpec(NETWORK_OUTPUT, "FP32", (classes,)),))
    return own_names(own, network.interface) if network.interface else own


def _run(entry: Entry, module: nn.Module, images: Evaluation) -> list[torch.Tensor]:
    """The network's own scores, by batch size. Raises BuilderError."""
    import torch

    with entry.at("images"), torch.inference_mode():
        return scores.scores_of(module, images, batch_sizes(entry.spec.max_batch_size), entry.name)


def _probabilities(entry: Entry, module: nn.Module, scored: list[torch.Tensor]) -> list[torch.Tensor]:
    """What artifacts are held to. Raises VerificationError."""
    spec: Classification = entry.spec
    scores.require_classes(scored[0].shape[1], spec, entry.name)
    probabilities = [module.activation(rows) for rows in scored]  # type: ignore[operator]
    for rows in probabilities:
        comparison.require_probabilities(rows, spec.is_multilabel, entry.name)
    scores.require_independence(module, scored, entry.name)
    return probabilities


def _remarks(
    entry: Entry,
    module: nn.Module,
    scored: torch.Tensor,
    images: Evaluation,
    labels: tuple[str, ...] | None,
    trained: bool,
) -> tuple[str, ...]:
    """What to warn of. Raises VerificationError for what is certainly wrong."""
    found = scores.remarks(module, scored, next(images.batches(1)), trained, entry.name)
    found += unlabelled(images)
    if trained and not entry.spec.is_multilabel:  # random weights are right by chance
        found += truths.remarks(scored.argmax(1).tolist(), images.classes, scored.shape[1], labels)
    return tuple(found)
