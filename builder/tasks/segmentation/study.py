"""What a segmenter itself gives for the evaluation images, once it is known to be masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.data.images import Evaluation, ImageFile
from builder.data.recipe import PreprocessRecipe
from builder.errors import ExportError, VerificationError
from builder.networks.artifact import alone
from builder.networks.heads import with_head
from builder.networks.making import settled
from builder.steps import STEPS
from builder.steps.mask import MaskSettings
from builder.tasks.images import photos
from builder.tasks.images.entries import evaluated
from builder.tasks.images.labels import resolve_labels
from builder.tasks.images.preprocessing import resolve_recipe
from builder.tasks.images.running import FEW, batch_sizes, in_batches, outputs
from builder.tasks.images.samples import ImageSamples
from builder.tasks.segmentation import classes, truths
from builder.tasks.segmentation.details import Details
from builder.tasks.segmentation.spec import Segmentation
from builder.tasks.task import Entry, Reference
from builder.triton.interface import own_names
from builder.triton.signature import NETWORK_INPUT, NETWORK_OUTPUT, Signature, TensorSpec, data_type_of
from builder.types import Network, Report
from builder.util.usercode import border

if TYPE_CHECKING:
    import torch
    from torch import nn

    Run = Callable[[torch.Tensor], torch.Tensor]

STEP = "pillow_placed"
SAME = 0.999
"""Share of the decided pixels of which the network must give the same class whatever the batch."""
DECIDED = 1e-4
"""Share of a picture's pixels that may be ties, for it to be an example."""


def study(entry: Entry, network: Network, report: Report) -> tuple[nn.Module, Reference]:
    """The network as a segmenter, and all that its artifacts are held to. Raises BuilderError."""
    recipe = resolve_recipe(entry, network)
    _require_recipe(entry, recipe)
    files, images = evaluated(entry, network, recipe, report)
    module = _with_head(entry, network, recipe)
    found = _result(entry, module, next(images.batches(1)))
    signature = _signature(entry, network, recipe, found)
    labels = resolve_labels(entry, network, None if found.ndim == 3 else max(2, found.shape[1]))
    answers = _answers(entry, module, images, recipe)
    return module, Reference(
        signature=signature,
        samples=ImageSamples(images, signature.inputs[0].name),
        answers=answers,
        trained=network.trained,
        provenance=dict(network.provenance),
        warnings=tuple(_remarks(answers[-1], network.trained)),
        labels=labels,
        is_widened=found.is_floating_point(),
        details=_details(entry, module, recipe, signature, files, images),
    )


def _require_recipe(entry: Entry, recipe: PreprocessRecipe) -> None:
    if entry.spec.size == "picture" and recipe.crop is not None:
        raise entry.error(
            "what a crop cuts off has no class, and masks are of the whole picture: say `crop: null` and `resize: "
            "[HEIGHT, WIDTH]`, or `letterbox:`; or `size: network` for masks of what the network sees",
            "preprocess",
        )


def head(entry: Entry, network: Network, reference: Reference) -> nn.Module:
    return _with_head(entry, network, reference.details.recipe)


def _with_head(entry: Entry, network: Network, recipe: PreprocessRecipe) -> nn.Module:
    if entry.artifact:
        return with_head(alone(network.module), (NETWORK_INPUT,), classes.as_given)
    module = settled(network.module, recipe.shape, entry.weights.seed, entry.spec.network)
    return with_head(module, (NETWORK_INPUT,), classes.in_head(_size(recipe)))


def _size(recipe: PreprocessRecipe) -> tuple[int, int]:
    return recipe.shape[1], recipe.shape[2]


def _signature(entry: Entry, network: Network, recipe: PreprocessRecipe, found: torch.Tensor) -> Signature:
    """Masks of the network's size, or what the user's own file gives."""
    pixels = TensorSpec(NETWORK_INPUT, "FP32", recipe.shape)
    given = TensorSpec(NETWORK_OUTPUT, "UINT8", _size(recipe))
    if entry.artifact:
        given = TensorSpec(NETWORK_OUTPUT, data_type_of(found.dtype), tuple(found.shape[1:]))
    own = Signature((pixels,), (given,))
    return own_names(own, network.interface) if network.interface else own


def _result(entry: Entry, module: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """What the network itself gives: logits, or numbers of classes. Raises ExportError, VerificationError."""
    import torch

    with border(ExportError, f"{entry.name}: the network fails on a batch of {len(batch)}"), torch.inference_mode():
        found = classes.of_result(module.network(batch))  # type: ignore[operator]
    if len(found) != len(batch):
        raise VerificationError(f"{entry.name}: the network gives {len(found)} masks for {len(batch)} pictures")
    if found.is_floating_point() and not torch.isfinite(found).all():
        raise VerificationError(
            f"{entry.name}: the network itself gives NaN or infinite logits on real images; its weights are damaged, "
            "or the recipe is not the one it was trained with"
        )
    if found.ndim == 3 and (found.min() < 0 or found.max() >= classes.MOST_CLASSES):
        raise VerificationError(f"{entry.name}: the network gives class {int(found.max())}; masks have 0 to 255")
    return found


def _run(entry: Entry, module: nn.Module, recipe: PreprocessRecipe) -> Run:
    """Batches to uint8 [B, 2, H, W]: masks, and where they are undecided."""
    import torch

    def run(batch: torch.Tensor) -> torch.Tensor:
        found = classes.led_to(_size(recipe), _result(entry, module, batch))
        return torch.stack([classes.chosen(found), classes.undecided(found).to(torch.uint8)], 1)

    return run


def _answers(entry: Entry, module: nn.Module, images: Evaluation, recipe: PreprocessRecipe) -> list[torch.Tensor]:
    """By batch size. Raises VerificationError where chance or the rest of the batch decides."""
    import torch

    run, sizes = _run(entry, module, recipe), batch_sizes(entry.spec.max_batch_size)
    with entry.at("images"):
        found = outputs(run, images, sizes)
    again = in_batches(run, torch.cat(list(images.batches(1, FEW))), sizes[0])
    if (share := _equal(found[0][: len(again)], again[: len(found[0])])) < SAME:
        raise VerificationError(
            f"{entry.name}: the network gives other masks when it is run twice on the same images: {1 - share:.2%} of "
            "the pixels differ. Chance must not decide in evaluation mode"
        )
    for other in found[1:]:
        count = min(len(found[0]), len(other))
        if (share := _equal(found[0][:count], other[:count])) < SAME:
            raise VerificationError(
                f"{entry.name}: the network's mask of an image depends on the other images of its batch: "
                f"{1 - share:.2%} of the pixels differ at other batch sizes. The usual cause is batch normalisation "
                "without running averages; mend forward(), or set `max_batch_size: 1`, with which each image is alone"
            )
    return found


def _equal(one: torch.Tensor, other: torch.Tensor) -> float:
    """Of the pixels that are decided."""
    decided = (one[:, 1] | other[:, 1]) == 0
    return 1 - int((one[:, 0] != other[:, 0])[decided].sum()) / max(1, int(decided.sum()))


def _details(
    entry: Entry, module: nn.Module, recipe: PreprocessRecipe, signature: Signature, files: list[ImageFile],
    images: Evaluation,
) -> Details:  # fmt: skip
    spec: Segmentation = entry.spec
    given = signature.outputs[0]
    with entry.at("images"):
        masks = truths.masks_of(images.views, _folder(entry))
        sizes = [view.file.decode(recipe).size for view in images.views]
        placements = tuple(recipe.placement(*size) for size in sizes)
        for path, placed in zip(masks, placements, strict=True):
            if path:
                truths.read(path, (placed.picture_height, placed.picture_width))
    return Details(
        recipe=recipe,
        settings=MaskSettings(
            data_type=given.data_type, shape=given.shape, input=_size(recipe), size=spec.size, encode=spec.encode
        ),
        files=files,
        images=images,
        placements=placements,
        masks=masks,
        examples=_examples(_run(entry, module, recipe), recipe, files),
    )


def _folder(entry: Entry) -> Path | None:
    images = entry.spec.images
    return entry.base / Path(images.masks).expanduser() if images and images.masks else None


def _examples(run: Run, recipe: PreprocessRecipe, files: list[ImageFile]) -> tuple[bytes, ...]:
    """The photos whose masks are decided, or that with the fewest ties."""
    import torch

    step: Any = STEPS[STEP].function(recipe)
    shares = {
        data: run(torch.as_tensor(step(data)[0])[None])[0, 1].double().mean().item()
        for data in photos.accepted(recipe, files)
    }
    decided = tuple(data for data, share in shares.items() if share <= DECIDED)
    return decided or (min(shares, key=lambda data: shares[data]),)


def _remarks(answers: torch.Tensor, trained: bool) -> list[str]:
    """What is right in no mask that anybody wants."""
    found = []
    if (answers[:, 1] == 1).double().mean().item() > 1 / 2:
        found.append("more than half of the pixels are ties between two classes, so that little of the masks is proved")
    if trained and bool((answers[:, 0] == answers[0, 0, 0, 0]).all()):
        found.append("all pixels of all images are of one class; the recipe may not be the network's, or the images")
    return found
