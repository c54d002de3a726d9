"""What a detector itself finds in the evaluation images, and that what is served of it finds the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.data.images import Evaluation, ImageFile
from builder.data.recipe import PreprocessRecipe
from builder.errors import VerificationError
from builder.networks.heads import as_tensors, in_order
from builder.steps.detections import DetectionSettings
from builder.tasks.detection import comparison, matching, running, subject
from builder.tasks.detection.annotations import Annotations, mean_average_precision, read
from builder.tasks.detection.found import Found
from builder.tasks.detection.limits import LIMITS, UNTRAINED, Tolerance, limits
from builder.tasks.detection.subject import Subject
from builder.tasks.images.entries import calibrating, evaluated
from builder.tasks.images.labels import resolve_labels
from builder.tasks.images.preprocessing import resolve_recipe
from builder.tasks.images.running import batch_sizes
from builder.tasks.images.samples import ImageCalibration, ImageSamples, PlacedCalibration, PlacedSamples
from builder.tasks.task import Entry, Reference
from builder.triton.interface import Interface, own_names
from builder.triton.signature import Signature, TensorSpec
from builder.types import Calibration, Network, Predict, Report

if TYPE_CHECKING:
    import torch
    from torch import nn

LEAST = 8
"""Detections in all images together that a comparison is worth something with."""
SOME = 10
"""An image, where there are fewer: the threshold is lowered for the comparison until there are so many."""
ALL = 0.995
MOST_UNDECIDED = 0.2
PLACEMENT_SHAPE = (6,)


@dataclass(frozen=True)
class Details:
    """What the task keeps of its study for later."""

    recipe: PreprocessRecipe
    files: list[ImageFile]
    images: Evaluation
    settings: DetectionSettings
    threshold: float
    """That detections are compared above."""
    takes_placement: bool
    annotations: Annotations | None = None


def study(entry: Entry, network: Network, report: Report) -> tuple[nn.Module, Reference]:
    """The network up to its candidates, and all that its artifacts are held to. Raises BuilderError."""
    import torch

    recipe = subject.recipe_of(entry, network, lambda known: resolve_recipe(entry, known))
    if recipe.crop is not None:
        raise entry.error(
            "in what a crop cuts off nothing would be found: detectors see whole pictures; say `letterbox: SIDE`, or "
            "`resize: [HEIGHT, WIDTH]` and `crop: null`",
            "preprocess",
        )
    files, images = evaluated(entry, network, recipe, report)
    served = subject.resolved(entry, network, recipe)
    labels = resolve_labels(entry, network, served.classes)
    with entry.at("images"), torch.inference_mode():
        own = [_sound(served.own(view), entry.name, view.name) for view in images.views]
    details = _details(entry, served, images, files, own, labels)
    signature = _signature(network, recipe, served)
    warnings = _held(entry, served, details, signature, own, network.trained)
    return served.head, Reference(
        signature=signature,
        samples=_samples(signature, images, served),
        answers=own,
        trained=network.trained,
        provenance=dict(network.provenance),
        warnings=tuple(warnings),
        labels=labels,
        is_widened=True,
        details=details,
    )


def head(entry: Entry, network: Network, reference: Reference) -> nn.Module:
    return subject.resolved(entry, network, reference.details.recipe).head


def calibration(entry: Entry, reference: Reference) -> Calibration | None:
    """The entry's images for int8, if it has some. Raises ManifestError."""
    names = [tensor.name for tensor in reference.signature.inputs]
    images = calibrating(entry, reference.details.recipe)
    if images is None:
        return None
    return PlacedCalibration(images, *names) if len(names) > 1 else ImageCalibration(images, names[0])


def _samples(signature: Signature, images: Evaluation, served: Subject) -> ImageSamples | PlacedSamples:
    names = [tensor.name for tensor in signature.inputs]
    return PlacedSamples(images, *names) if served.takes_placement else ImageSamples(images, names[0])


def _sound(own: Found, name: str, image: str) -> Found:
    """Raises VerificationError for what no detection can be."""
    import torch

    if not torch.isfinite(own.boxes).all() or not torch.isfinite(own.scores).all():
        raise VerificationError(
            f"{name}: the network itself gives NaN or infinite numbers for {image}; its weights are damaged, or the "
            "recipe is not the one it was trained with"
        )
    if len(own.scores) and (own.scores.min() < 0 or own.scores.max() > 1 + 1e-5):
        raise VerificationError(
            f"{name}: the network gives scores from {own.scores.min():.3g} to {own.scores.max():.3g}, and they are "
            "probabilities; say what makes them so with `output: {activation: sigmoid}`"
        )
    return own


def _details(
    entry: Entry,
    served: Subject,
    images: Evaluation,
    files: list[ImageFile],
    own: list[Found],
    labels: tuple[str, ...] | None,
) -> Details:
    annotations = None
    if entry.spec.images and entry.spec.images.annotations:
        with entry.at("images", "annotations"):
            annotations = read(entry.spec.images, images, entry.base, labels)
    threshold = _threshold(served.settings.score_threshold, own, entry.name)
    return Details(
        images.recipe, files, images, served.settings, threshold, served.takes_placement, annotations
    )  # fmt: skip


def _threshold(wanted: float, own: list[Found], name: str) -> float:
    """The entry's, or a lower one above which there is something to compare. Raises VerificationError."""
    if sum(len(found.above(wanted).scores) for found in own) >= LEAST:
        return wanted
    scores = sorted((score for found in own for score in found.scores.tolist()), reverse=True)
    if not scores:
        raise VerificationError(f"{name}: the network finds nothing in any of the images, so that nothing is proved")
    return float(min(wanted, scores[min(len(scores), SOME * len(own)) - 1] * (1 - 1e-6)))


def _signature(network: Network, recipe: PreprocessRecipe, served: Subject) -> Signature:
    names = served.inputs
    kinds = (("FP32", recipe.shape), ("INT32", PLACEMENT_SHAPE))
    inputs = tuple(TensorSpec(name, *kind) for name, kind in zip(names, kinds, strict=False))
    outputs = tuple(TensorSpec(f"OUTPUT__{n}", *kind) for n, kind in enumerate(served.settings.tensors))
    own = Signature(inputs, outputs)
    return _own_names(own, network.interface) if network.interface else own


def _own_names(own: Signature, told: Interface) -> Signature:
    """The file's names, in the layout's order: the boxes first."""
    named = own_names(own, told)
    widths = [tensor.shape[-1] if tensor.shape else None for tensor in told.outputs or ()]
    if len(widths) == 2 and widths[0] != 4 and widths[1] == 4:
        return named.with_names(tuple(one.name for one in named.inputs), tuple(one.name for one in named.outputs[::-1]))
    return named


def _held(
    entry: Entry, served: Subject, details: Details, signature: Signature, own: list[Found], trained: bool
) -> list[str]:
    """Hold what is to be served, step and all, to the network's own pipeline; what to warn of."""
    import torch

    inputs, outputs = ([tensor.name for tensor in side] for side in (signature.inputs, signature.outputs))

    def predict(tensors: object) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            return as_tensors(outputs, served.head(*in_order(tensors, inputs)))  # type: ignore[arg-type]

    allowed = (LIMITS["fp32"] if trained else UNTRAINED).model_copy(update={"map_loss": None})
    figures = compared(entry, details, signature, own, predict, entry.name, allowed)
    if failures := comparison.failures_of(figures, allowed):
        raise VerificationError(
            f"{entry.name}: what would be served of the network does not find what its own pipeline finds: "
            f"{'; '.join(failures)}; most in {', '.join(figures.worst) or 'none'}. If its answer for an image depends "
            "on the other images of its batch, mend forward(), or set `max_batch_size: 1`"
        )
    return _remarks(details, figures, own, trained)


def compared(
    entry: Entry,
    details: Details,
    signature: Signature,
    own: list[Found],
    predict: Predict,
    what: str,
    allowed: Tolerance,
) -> comparison.DetectionVerification:
    """What is found through the step, against the network's own pipeline. Raises VerificationError."""
    settings = details.settings.model_copy(update={"score_threshold": details.threshold})
    sizes = batch_sizes(entry.spec.max_batch_size)
    rules = matching.Rules(
        match_iou=allowed.match_iou or 0.5,
        box_error=allowed.box_error,
        score_tie=allowed.score_error or 0.01,
        threshold=details.threshold,
        iou_threshold=settings.iou_threshold,
        most=settings.max_detections,
    )
    tally, last = comparison.Tally(), {}
    for number, found, candidates in running.detections(predict, signature, details.images, settings, sizes, what):
        expected = own[number].above(details.threshold)
        tally.matches.append((details.images.views[number].name, matching.match(expected, found, rules, candidates)))
        last[number] = found
    return tally.figures(sizes, len(details.images), _precisions(details, own, last))


def _precisions(details: Details, own: list[Found], found: dict[int, Found]) -> tuple[float | None, float | None]:
    if details.annotations is None:
        return None, None
    ours = {number: one.above(details.threshold) for number, one in enumerate(own)}
    return mean_average_precision(details.annotations, ours), mean_average_precision(details.annotations, found)


def _remarks(details: Details, figures: comparison.DetectionVerification, own: list[Found], trained: bool) -> list[str]:
    found = []
    if details.threshold < details.settings.score_threshold:
        count = sum(len(one.above(details.settings.score_threshold).scores) for one in own)
        found.append(
            f"the network finds {count or 'nothing'} above its threshold of {details.settings.score_threshold:g} in "
            f"{len(own)} images, so that what it finds above {details.threshold:.2g} was compared"
        )
    if figures.undecided > MOST_UNDECIDED:
        proved = "less" if figures.undecided < ALL else "nothing"
        found.append(
            f"{figures.undecided:.0%} of the detections tie with others, and count neither way, so that {proved} is "
            "proved of them" + ("" if trained else "; random weights give nearly one score to everything")
        )
    return found


def allowed_for(entry: Entry, trained: bool) -> Tolerance:
    """Random weights give nearly one score to everything, and what suppresses what is chance: they are held loosely."""
    own = limits(entry.spec.precision, entry.spec.tolerance)
    return own if trained else UNTRAINED.model_copy(update=entry.spec.tolerance.model_dump(exclude_unset=True))
