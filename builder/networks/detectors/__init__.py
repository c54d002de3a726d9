"""torchvision's detectors, taken apart: what is exported of them, and their own pipeline, which that is held to.

A detector is exported up to its candidates, for any batch of images of one size: boxes with a score and a class. The
thresholds, the suppression of what overlaps (NMS) and the way back to the picture are a step's behind the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.data.recipe import PreprocessRecipe
from builder.data.recipe.letterbox import Letterbox
from builder.errors import ManifestError
from builder.networks.detectors import dense, ssd, two_stage

if TYPE_CHECKING:
    import torch
    from torch import nn

GRID = 32
"""torchvision pads pictures to multiples of it."""
KINDS: dict[str, Any] = {"SSD": ssd, "RetinaNet": dense, "FCOS": dense, "FasterRCNN": two_stage}
REFUSED = {
    "MaskRCNN": "give its boxes alone, as torchvision's fasterrcnn_resnet50_fpn does",
    "KeypointRCNN": "give its boxes alone, as torchvision's fasterrcnn_resnet50_fpn does",
}


@dataclass(frozen=True)
class Detector:
    """One of torchvision's detectors, for images as a recipe makes them."""

    network: nn.Module
    """float32 [B, 3, H, W], and int32 [B, 6] where it takes the placement, to what `outputs` makes candidates of."""
    outputs: Callable[[Any], tuple[torch.Tensor, ...]]
    """Boxes float32 [B, K, 4] in pixels of the input, scores float32 [B, K] and classes int32 [B, K], of all scores."""
    takes_placement: bool
    """Whether it has to know which part of its input is the picture."""
    classes: int
    """The background among them, where it has one."""
    own: Callable[[torch.Tensor], dict[str, torch.Tensor]]
    """torchvision's own pipeline, with every score: a picture, float32 [3, h, w] from 0 to 1, to boxes in its pixels,
    scores and labels."""
    score_threshold: float
    iou_threshold: float


def is_detector(module: nn.Module) -> bool:
    return _kind(module) in KINDS


def _kind(module: nn.Module) -> str:
    """The name of torchvision's class that the module is of, or derived from."""
    names = [
        kind.__name__ for kind in type(module).__mro__ if kind.__module__.startswith("torchvision.models.detection")
    ]
    return names[0] if names else ""


def refusal(module: nn.Module) -> str:
    """Why one of torchvision's cannot be served; empty for others."""
    kind = _kind(module)
    return f"{kind} gives more than boxes: {REFUSED[kind]}" if kind in REFUSED else ""


def branches(module: nn.Module) -> bool:
    """Whether it looks at what a first network proposes, so that no symbol stands for its tensors."""
    return KINDS.get(_kind(module)) is two_stage


def recipe(module: nn.Module) -> PreprocessRecipe:
    """As the module's own transform treats pictures."""
    transform: Any = module.transform
    common = {"channels": 3, "mean": tuple(transform.image_mean), "std": tuple(transform.image_std), "antialias": False}
    if transform.fixed_size is not None:
        width, height = transform.fixed_size
        return PreprocessRecipe(resize=(height, width), **common)
    side = -(-transform.max_size // GRID) * GRID
    return PreprocessRecipe(letterbox=_box(side, transform.min_size[-1], transform.max_size), **common)


def _box(side: int, shortest: int, longest: int) -> Letterbox:
    return Letterbox(size=(side, side), place="corner", fill="mean", shortest=shortest, longest=longest)


def fitted(wanted: PreprocessRecipe) -> PreprocessRecipe:
    """A recipe with what torchvision's transform would do where it says nothing. Raises ManifestError."""
    box = wanted.letterbox
    if wanted.antialias or wanted.channels != 3:
        raise ManifestError("torchvision's detectors take colours, and resize without antialiasing: antialias: false")
    if wanted.crop is not None or (box is None and len(wanted.resize or ()) != 2):
        raise ManifestError("torchvision's detectors see whole pictures: say resize: [H, W], or letterbox: SIDE")
    if box is None:
        return wanted
    said = {name: getattr(box, name) for name in ("place", "fill") if name in box.model_fields_set}
    if said.get("place", "corner") != "corner" or said.get("fill", "mean") != "mean" or len(set(box.size)) > 1:
        raise ManifestError("torchvision's detectors have pictures in the corner of a square, and fill it with mean")
    if box.size[0] % GRID:
        raise ManifestError(f"torchvision's detectors take sides that are multiples of {GRID}, not {box.size[0]}")
    whole = _box(box.size[0], box.shortest or box.size[0], box.longest or box.size[0])
    return wanted.model_copy(update={"letterbox": whole})


def detector(module: nn.Module, wanted: PreprocessRecipe, detections: int) -> Detector:
    """The module, which is changed to follow the recipe, and to give at most so many detections."""
    kind = KINDS[_kind(module)]
    thresholds: Any = kind.thresholds(module)
    score, iou = float(thresholds.score_thresh), float(thresholds.nms_thresh)
    _follow(module, wanted)
    thresholds.score_thresh, thresholds.detections_per_img = 0.0, detections
    size = (wanted.shape[1], wanted.shape[2])
    takes_placement = kind.TAKES_PLACEMENT and wanted.letterbox is not None
    network, outputs = kind.taken_apart(module, size)
    return Detector(network, outputs, takes_placement, kind.classes(module), _own(module, wanted), score, iou)


def with_iou(module: nn.Module, threshold: float) -> None:
    """Have torchvision's own pipeline suppress what overlaps more than this."""
    KINDS[_kind(module)].thresholds(module).nms_thresh = threshold


def _follow(module: nn.Module, wanted: PreprocessRecipe) -> None:
    transform: Any = module.transform
    transform.image_mean, transform.image_std = list(wanted.mean), list(wanted.std)
    if wanted.letterbox is None:
        assert wanted.resize is not None  # or `fitted` had refused it
        transform.fixed_size, transform.size_divisible = (wanted.shape[2], wanted.shape[1]), 1
        return
    box = wanted.letterbox
    # Each picture is padded to the canvas, whatever it is beside.
    transform.fixed_size, transform.size_divisible = None, box.size[0]
    transform.min_size, transform.max_size = (box.shortest,), box.longest


def _own(module: nn.Module, wanted: PreprocessRecipe) -> Callable[[torch.Tensor], dict[str, torch.Tensor]]:
    def run(picture: torch.Tensor) -> dict[str, torch.Tensor]:
        ordered = picture.flip(0) if wanted.channel_order == "bgr" else picture
        (found,) = module([ordered])
        return {name: found[name] for name in ("boxes", "scores", "labels")}

    return run


def names() -> Sequence[str]:
    """Of torchvision's classes that can be served."""
    return tuple(KINDS)
