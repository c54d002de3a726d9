"""What is served of a network that finds objects, and the pipeline of its own that it is held to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.data.images import View
from builder.data.recipe import PreprocessRecipe
from builder.errors import ExportError, ManifestError, VerificationError
from builder.networks import detectors
from builder.networks.detectors import queries
from builder.networks.detectors.queries import Queries
from builder.networks.heads import with_head
from builder.networks.making import settled
from builder.networks.outputs import described
from builder.steps.detections import DetectionSettings
from builder.tasks.detection import found, plausible
from builder.tasks.detection.found import Found
from builder.tasks.detection.spec import Detection, Output
from builder.tasks.images.samples import placed
from builder.tasks.task import Entry
from builder.triton.signature import NETWORK_INPUT, data_type_of
from builder.types import Network
from builder.util.usercode import border

if TYPE_CHECKING:
    import torch
    from torch import nn

Told = tuple[str, tuple[int, ...]]
"""Triton's data type, and a shape."""
PLACEMENT_INPUT = "INPUT__1"
SCORE_THRESHOLD, IOU_THRESHOLD = 0.25, 0.45
"""Of networks that have none of their own."""
COUNTS = {"boxes_scores": 2, "yolo": 1}


@dataclass(frozen=True)
class Subject:
    """A network, made ready."""

    head: nn.Module
    takes_placement: bool
    classes: int
    settings: DetectionSettings
    own: Callable[[View], Found]
    """Its own pipeline: everything that it finds in a picture, however low the score."""

    @property
    def inputs(self) -> tuple[str, ...]:
        return (NETWORK_INPUT, PLACEMENT_INPUT) if self.takes_placement else (NETWORK_INPUT,)


def resolved(entry: Entry, network: Network, recipe: PreprocessRecipe) -> Subject:
    """Raises BuilderError."""
    if refused := detectors.refusal(network.module):
        raise entry.error(f"{entry.spec.network}: {refused}", "network")
    if detectors.is_detector(network.module):
        return _of_torchvision(entry, network, recipe)
    if told := queries.of(network.module):
        return _of_queries(entry, network, recipe, told)
    if entry.spec.output is None:
        raise entry.error(
            "nothing tells what the network gives, which is none of torchvision's detectors; say `output: {layout: "
            "yolo}`, or `output: {layout: boxes_scores, box: xyxy}`",
            *(("artifact",) if entry.artifact else ("network",)),
        )
    return _of_layout(entry, network, recipe, entry.spec.output)


def _of_torchvision(entry: Entry, network: Network, recipe: PreprocessRecipe) -> Subject:
    spec: Detection = entry.spec
    if spec.output is not None:
        raise entry.error("torchvision's detectors are known; leave output out", "output")
    if (spec.format, spec.precision) == ("torchscript", "int8") and detectors.branches(network.module):
        raise entry.error(
            "PyTorch's quantisation follows no code that chooses by content, as a detector of two stages does; say "
            "`format: openvino` or `format: onnx`, which quantise the operations that it runs",
            "precision",
        )
    detector = detectors.detector(network.module, recipe, spec.max_detections)
    iou = spec.iou_threshold or detector.iou_threshold
    detectors.with_iou(network.module, iou)
    names = (NETWORK_INPUT, PLACEMENT_INPUT)[: 1 + detector.takes_placement]
    head = with_head(detector.network, names, detector.outputs)
    settings = _settings(
        spec, recipe, _shapes(entry, head, recipe, detector.takes_placement), detector.score_threshold, iou
    )

    def own(view: View) -> Found:
        with border(ExportError, f"{entry.name}: torchvision's own pipeline fails on {view.name}"):
            given = detector.own(_picture(view, recipe))
        return Found(given["boxes"], given["scores"], given["labels"])

    return Subject(head, detector.takes_placement, detector.classes, settings, own)


def _of_queries(entry: Entry, network: Network, recipe: PreprocessRecipe, told: Queries) -> Subject:
    """Of a detector behind which nothing is suppressed; a border, if there is one, it has to be told of."""
    spec: Detection = entry.spec
    if spec.output is not None:
        raise entry.error("what detectors of transformers give is known; leave output out", "output")
    takes_placement = told.takes_mask and recipe.letterbox is not None
    size = (recipe.shape[1], recipe.shape[2])
    names = (NETWORK_INPUT, PLACEMENT_INPUT)[: 1 + takes_placement]
    head = with_head(queries.served(network.module, told, takes_placement), names, queries.candidates(told, size))
    shapes = _shapes(entry, head, recipe, takes_placement)
    iou = spec.iou_threshold or queries.NEVER
    settings = _settings(spec, recipe, shapes, told.score_threshold, iou)

    def own(view: View) -> Found:
        pixels = view.tensor(recipe, recipe.reference_transform())[None]
        place = placed(view, recipe)
        with border(ExportError, f"{entry.name}: transformers' own pipeline fails on {view.name}"):
            given = queries.found(network.module, told, pixels, place)
        return found.best(Found(given["boxes"], given["scores"], given["labels"]), place, settings)

    return Subject(head, takes_placement, told.classes, settings, own)


def _picture(view: View, recipe: PreprocessRecipe) -> torch.Tensor:
    """float32 [3, h, w] from 0 to 1, of the picture as people see it."""
    import torch
    from torchvision.transforms.functional import to_tensor

    return torch.as_tensor(view.tensor(recipe, to_tensor))


def _of_layout(entry: Entry, network: Network, recipe: PreprocessRecipe, output: Output) -> Subject:
    spec: Detection = entry.spec
    module = network.module
    if not entry.artifact:
        module = settled(module, recipe.shape, entry.weights.seed, spec.network)
    head = with_head(module, (NETWORK_INPUT,), lambda result: _laid_out(result, output))
    given = _shapes(entry, head, recipe, False)
    threshold, iou = spec.score_threshold or SCORE_THRESHOLD, spec.iou_threshold or IOU_THRESHOLD
    settings = _settings(spec, recipe, given, threshold, iou).model_copy(
        update={
            "layout": output.layout,
            "box": output.box or ("cxcywh" if output.layout == "yolo" else "xyxy"),
            "normalized": output.normalized,
            "activation": output.activation,
            "background": output.background,
        }
    )
    classes = _classes(entry, settings)
    _require_background(entry, settings, classes)

    def own(view: View) -> Found:
        answer = _answer(entry, head, view.tensor(recipe, recipe.reference_transform())[None], view.name)
        if network.trained:
            plausible.require(entry, settings, answer)
        with entry.at("output"):
            return found.decoded(settings, [tensor[0] for tensor in answer], placed(view, recipe))

    return Subject(head, False, classes, settings, own)


def _laid_out(result: Any, output: Output) -> tuple[torch.Tensor, ...]:
    """The tensors of a layout, of what a network gives. Raises VerificationError."""
    tensors = list(result.values()) if isinstance(result, dict) else result
    tensors = list(tensors) if isinstance(tensors, tuple | list) else [tensors]
    wanted = COUNTS[output.layout]
    if len(tensors) != wanted or any(getattr(tensor, "ndim", 0) != 3 for tensor in tensors):
        form = "boxes [B, N, 4] and scores [B, N, C]" if wanted == 2 else "one tensor [B, 4 + classes, N]"
        raise VerificationError(f"`layout: {output.layout}` is {form}; this gives {described(result)}")
    if wanted == 2 and tensors[0].shape[2] != 4 and tensors[1].shape[2] == 4:
        tensors.reverse()
    return tuple(tensor.float() for tensor in tensors)


def _classes(entry: Entry, settings: DetectionSettings) -> int:
    """Raises ManifestError for shapes that cannot be of the layout."""
    shape = settings.tensors[-1][1]
    if settings.layout == "yolo":
        rows, columns = shape
        if rows <= 4 or rows > columns:
            raise entry.error(
                f"`layout: yolo` is [B, 4 + classes, boxes], and the network gives [B, {rows}, {columns}]; "
                "transpose it in forward(), or when it is exported",
                "output",
            )
        return rows - 4
    if settings.tensors[0][1][1] != 4 or settings.tensors[0][1][0] != shape[0]:
        raise entry.error(
            f"boxes are [B, N, 4] and scores [B, N, C]; the network gives {list(settings.tensors[0][1])} and "
            f"{list(shape)} an image",
            "output",
        )
    return shape[1]


def _require_background(entry: Entry, settings: DetectionSettings, classes: int) -> None:
    if settings.background is not None and settings.background >= classes:
        raise entry.error(
            f"there are {classes} classes, so that {settings.background} is none of them", "output", "background"
        )


def _settings(
    spec: Detection,
    recipe: PreprocessRecipe,
    tensors: Sequence[Told],
    threshold: float,
    iou: float,
) -> DetectionSettings:
    return DetectionSettings(
        tensors=tuple(tensors),
        network_size=(recipe.shape[1], recipe.shape[2]),
        score_threshold=threshold if spec.score_threshold is None else spec.score_threshold,
        iou_threshold=iou,
        max_detections=spec.max_detections,
    )


def _shapes(
    entry: Entry, head: nn.Module, recipe: PreprocessRecipe, takes_placement: bool
) -> list[tuple[str, tuple[int, ...]]]:
    """Triton's data type and the shape of each output, for one image. Raises BuilderError."""
    import torch

    pixels = torch.zeros(1, *recipe.shape)
    rows, columns = recipe.shape[1:]
    place = torch.tensor([[rows, columns, 0, 0, rows, columns]], dtype=torch.int32)
    given = _answer(entry, head, pixels, "a black image", *([place] if takes_placement else []))
    return [(data_type_of(tensor.dtype), tuple(tensor.shape[1:])) for tensor in given]


def _answer(
    entry: Entry, head: nn.Module, pixels: torch.Tensor, name: str, *others: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    import torch

    try:
        with torch.inference_mode(), border(ExportError, f"{entry.name}: the network fails on {name}"):
            given = head(pixels, *others)
    except VerificationError as error:
        raise entry.error(str(error), "output") from None
    return given if isinstance(given, tuple) else (given,)


def recipe_of(entry: Entry, network: Network, own: Callable[[Network], PreprocessRecipe]) -> PreprocessRecipe:
    """The entry's, on top of what torchvision's detectors bring along. Raises ManifestError."""
    from dataclasses import replace

    if not detectors.is_detector(network.module):
        return own(network)
    known = network if network.recipe else replace(network, recipe=detectors.recipe(network.module))
    try:
        return detectors.fitted(own(known))
    except ManifestError as error:
        if error.has_place:
            raise
        raise entry.error(str(error), "preprocess") from None
