"""What a segmenter itself gives for the evaluation images, once it is known to be masks of single images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.data.images import Evaluation, ImageFile, Tensors, evaluation, find
from builder.data.recipe import PreprocessRecipe
from builder.data.recipe.placing import Placement
from builder.errors import ExportError, VerificationError
from builder.networks.heads import with_head
from builder.networks.making import settled
from builder.steps import STEPS
from builder.steps.mask import MaskSettings
from builder.tasks.images import samples
from builder.tasks.images.artifacts import require_size
from builder.tasks.images.labels import resolve_labels
from builder.tasks.images.preprocessing import MIN_IMAGES, hold_step, resolve_recipe
from builder.tasks.images.running import batch_sizes, outputs
from builder.tasks.images.samples import ImageCalibration, ImageSamples
from builder.tasks.segmentation import maps, truths
from builder.tasks.segmentation.spec import Segmentation
from builder.tasks.task import Entry, Reference
from builder.triton.interface import own_names
from builder.triton.signature import NETWORK_INPUT, NETWORK_OUTPUT, Signature, TensorSpec, data_type_of
from builder.types import Network, Report
from builder.util.usercode import border

if TYPE_CHECKING:
    import torch
    from torch import nn

STEP = "mask"
TIE = 1e-3
"""Of the spread of all scores: two classes as near as this are a tie to rounded arithmetic."""
MOST_UNDECIDED = 0.2
LIMIT = 1e-3
"""Share of decided pixels that a second run, or the company of an image, may change."""


@dataclass(frozen=True)
class Details:
    """What the task keeps of its study for later."""

    recipe: PreprocessRecipe
    files: list[ImageFile]
    images: Evaluation
    settings: MaskSettings
    classes: int
    decided: list[torch.Tensor]
    """bool [images, H, W] by batch size, as the answers: pixels whose best class is no tie."""
    truths: dict[int, Path] = field(default_factory=dict)
    """By number of the image, the file of its true mask."""


def study(entry: Entry, network: Network, report: Report) -> tuple[nn.Module, Reference]:
    """The network as it is served, and all that its artifacts are held to. Raises BuilderError."""
    recipe = resolve_recipe(entry, network)
    _require_whole(entry, recipe)
    if network.interface and entry.artifact:
        with entry.at("preprocess"):
            require_size(network.interface, recipe.shape, entry.artifact.path.name)
    report("preprocessing the evaluation images")
    with entry.at("images"):
        files = find(entry.spec.images, entry.base)
    hold_step(entry, recipe, files)
    images = evaluation(files, recipe, max(MIN_IMAGES, entry.spec.max_batch_size))
    report("running the network")
    module = _head(entry, network, recipe)
    asked = _asked(entry, module, images, recipe)
    labels = resolve_labels(entry, network, asked.classes)
    with entry.at("images"):
        masks = truths.found(entry.spec.images, images, entry.base)
    details = Details(recipe, files, images, asked.settings, asked.classes, asked.decided, masks)
    _hold_masks(entry, details, asked.answers[-1], asked.raw)
    signature = _signature(network, recipe, asked.settings)
    return module, Reference(
        signature=signature,
        samples=ImageSamples(images, signature.inputs[0].name),
        answers=asked.answers,
        trained=network.trained,
        provenance=dict(network.provenance),
        warnings=tuple(_remarks(asked)),
        labels=labels,
        is_widened=True,
        details=details,
    )


def _require_whole(entry: Entry, recipe: PreprocessRecipe) -> None:
    """Raise ManifestError for a recipe that cuts away what masks are to be of."""
    if recipe.crop is not None and entry.spec.size == "picture":
        raise entry.error(
            "a crop cuts off parts of the pictures, of which nothing could be told; say `preprocess: {resize: [H, W], "
            "crop: null}`, or letterbox, or `size: network`",
            "preprocess",
        )


def head(entry: Entry, network: Network, reference: Reference) -> nn.Module:
    return _head(entry, network, reference.details.recipe)


def calibration(entry: Entry, reference: Reference) -> ImageCalibration | None:
    """The entry's images for int8, if it has some. Raises ManifestError."""
    if entry.spec.calibration is None:
        return None
    with entry.at("calibration"):
        files = find(entry.spec.calibration, entry.base)
    return ImageCalibration(Tensors(files, reference.details.recipe), reference.signature.inputs[0].name)


def _head(entry: Entry, network: Network, recipe: PreprocessRecipe) -> nn.Module:
    """Classes, uint8 [B, H, W], for each pixel of the network's input; of a file of the user's, what it gives."""
    if entry.artifact:
        return with_head(network.module, (NETWORK_INPUT,), lambda result: (_alone(result),))
    module = settled(network.module, recipe.shape, entry.weights.seed, entry.spec.network)
    size = (recipe.shape[1], recipe.shape[2])
    return with_head(module, (NETWORK_INPUT,), lambda result: (maps.best(maps.enlarged(maps.whole(result), size)),))


def _alone(result: Any) -> torch.Tensor:
    """The one output of a user's file, whose name it may be given by."""
    if isinstance(result, dict) and len(result) == 1:
        result = next(iter(result.values()))
    return maps.whole(result)


@dataclass
class Asked:
    """What the network gave, by batch size."""

    answers: list[torch.Tensor]
    """uint8 [images, h, w]"""
    decided: list[torch.Tensor]
    raw: torch.Tensor
    """What it, or the user's file, gives for the first image, as it is served: [1, ...]."""
    classes: int
    settings: MaskSettings


def _asked(entry: Entry, module: nn.Module, images: Evaluation, recipe: PreprocessRecipe) -> Asked:
    """Raises BuilderError."""
    import torch

    sizes, size = batch_sizes(entry.spec.max_batch_size), (recipe.shape[1], recipe.shape[2])
    known: list[int] = []

    def predict(batch: torch.Tensor) -> torch.Tensor:
        scores = _scores(entry, module, batch)
        known.append(scores.shape[1] if scores.ndim == 4 else int(scores.max()) + 1)
        found = scores if entry.artifact else maps.enlarged(scores, size)
        certain = maps.margins(found) > TIE if found.ndim == 4 else torch.ones_like(found, dtype=torch.bool)
        return torch.stack((maps.best(found), certain.to(torch.uint8)), dim=1)

    with entry.at("images"), torch.inference_mode():
        found = outputs(predict, images, sizes)
        first = next(images.batches(1))
        again, raw = predict(first)[:, 0], module(first)
    answers, decided = ([rows[:, part] for rows in found] for part in (0, 1))
    certain = [rows.bool() for rows in decided]
    _require_same(entry.name, answers, certain, again)
    return Asked(answers, certain, raw, max(known), _settings(entry, raw, size))


def _scores(entry: Entry, module: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """[B, C, h, w], or classes [B, h, w]. Raises VerificationError, ExportError."""
    import torch

    network: Any = module.network
    with border(ExportError, f"{entry.name}: the network fails on a batch of {len(batch)} images"):
        result = network(batch)
    try:
        scores = _alone(result)
    except VerificationError as error:
        raise VerificationError(f"{entry.name}: {error}") from None
    if len(scores) != len(batch):
        raise VerificationError(f"{entry.name}: the network gives {len(scores)} masks for {len(batch)} images")
    if scores.ndim == 4 and not torch.isfinite(scores).all():
        raise VerificationError(
            f"{entry.name}: the network itself gives NaN or infinite scores for real images; its weights are damaged, "
            "or the recipe is not the one it was trained with"
        )
    return scores


def _require_same(name: str, answers: list[torch.Tensor], decided: list[torch.Tensor], again: torch.Tensor) -> None:
    """Raise VerificationError where chance decides, or the company of an image does."""
    alone, certain = answers[0], decided[0]
    if _changed(alone[:1], again, certain[:1]) > LIMIT:
        raise VerificationError(
            f"{name}: the network gives another mask when it is run twice on the same image. Chance must not decide in "
            "evaluation mode"
        )
    for other in answers[1:]:
        count = min(len(alone), len(other))
        if _changed(alone[:count], other[:count], certain[:count]) > LIMIT:
            raise VerificationError(
                f"{name}: an image's mask depends on the other images of its batch, and the server forms batches of "
                "anybody's images; mend forward() (batch normalisation without running averages, a mean over dimension "
                "0), or set `max_batch_size: 1`"
            )


def _changed(ours: torch.Tensor, theirs: torch.Tensor, decided: torch.Tensor) -> float:
    return ((ours != theirs) & decided).sum().item() / max(1, int(decided.sum()))


def _settings(entry: Entry, raw: torch.Tensor, size: tuple[int, int]) -> MaskSettings:
    spec: Segmentation = entry.spec
    kind, shape = data_type_of(raw.dtype), tuple(raw.shape[1:])
    return MaskSettings(data_type=kind, shape=shape, network_size=size, size=spec.size, encode=spec.encode)


def _signature(network: Network, recipe: PreprocessRecipe, settings: MaskSettings) -> Signature:
    pixels = TensorSpec(NETWORK_INPUT, "FP32", recipe.shape)
    own = Signature((pixels,), (TensorSpec(NETWORK_OUTPUT, settings.data_type, settings.shape),))
    return own_names(own, network.interface) if network.interface else own


def _hold_masks(entry: Entry, details: Details, answers: torch.Tensor, raw: torch.Tensor) -> None:
    """Hold the step behind the network to masks that PyTorch makes, for pictures as they are. Raises BuilderError."""
    import numpy as np

    plain = details.settings.model_copy(update={"size": "picture", "encode": "none"})
    uint8 = plain.model_copy(update={"data_type": "UINT8", "shape": tuple(answers.shape[1:])})
    served, of_raw = STEPS[STEP].function(uint8), STEPS[STEP].function(plain)
    for number, view in enumerate(details.images.views[:MIN_IMAGES]):
        placement = placed(details, number)
        expected = maps.of_picture(answers[number], placement, details.settings.network_size).numpy()
        at = np.array(placement, np.int32)
        same = np.array_equal(served(answers[number].numpy(), at), expected)
        if not same or (number == 0 and not _agrees(of_raw(raw[0].numpy(), at), expected)):
            raise VerificationError(f"{entry.name}: the served step makes another mask than PyTorch of {view.name}")


def _agrees(found: Any, expected: Any) -> bool:
    """Of what was computed twice, in batches of other sizes, so that ties may fall otherwise."""
    return found.shape == expected.shape and float((found != expected).mean()) <= 10 * LIMIT


def placed(details: Details, number: int) -> Placement:
    """Where an evaluation image lies in the network's input."""
    return samples.placed(details.images.views[number], details.recipe)


def _remarks(asked: Asked) -> list[str]:
    found = []
    if (asked.answers[-1] == asked.answers[-1].flatten()[0]).all():
        found.append(
            f"the network gives class {int(asked.answers[-1].flatten()[0])} for every pixel of every picture, so that "
            "little is proved; its weights may not be trained, or the images are not of its kind"
        )
    undecided = 1 - asked.decided[-1].double().mean().item()
    if undecided > MOST_UNDECIDED:
        found.append(f"two classes tie on {undecided:.0%} of the pixels, which count neither way in the comparison")
    return found
