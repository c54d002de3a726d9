"""torchvision's detectors, taken apart: every one finds what torchvision's own pipeline finds."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import pytest
import torch
from conftest import build
from networks import kinds
from PIL import Image
from torch import nn
from torchvision.models import detection as models
from torchvision.models import list_models
from torchvision.ops import batched_nms
from torchvision.transforms.functional import to_tensor

import builder
from builder import networks
from builder.data.recipe import PreprocessRecipe, RecipeOverrides
from builder.errors import ManifestError
from builder.networks import NETWORKS, detectors
from builder.networks.detectors import Detector
from builder.tasks.detection.found import Found
from builder.tasks.detection.matching import Rules, match
from builder.types import NetworkRequest, WeightsSource

SAMPLES = Path(builder.__file__).parent / "samples"
PHOTOS = [Image.open(SAMPLES / f"{name}.jpg").convert("RGB") for name in ("chelsea", "rocket")]
NAMES = NETWORKS["torchvision_detection"].names()
LISTED = [name for name in list_models(module=models) if "mask" not in name and "keypoint" not in name]
SHORT = {"ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"}
SHARPENED = {"rpn.head.cls_logits.weight": 20.0, "cls_score.weight": 3.0}
"""Weights at random tell all classes alike; what is found then is a matter of chance."""
MOST = 100
KINDS = ("ssd", "retinanet", "fcos", "faster_rcnn")


def made(name: str) -> nn.Module:
    source = WeightsSource("random", "random")
    return networks.find(name).make(NetworkRequest(name, source, {"num_classes": 5}, SAMPLES)).module


def lively(module: nn.Module) -> nn.Module:
    """With statistics of batch normalisation that fit its weights, or nothing would come through all its layers."""
    module.eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.train()
            part.reset_running_stats()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            factor = next((factor for end, factor in SHARPENED.items() if name.endswith(end)), None)
            if factor is None and name.endswith("cls_logits.bias"):
                parameter.zero_()
            parameter.mul_(factor or 1.0)
        for _ in range(3):
            module([to_tensor(photo) for photo in PHOTOS])
    return module.eval()


def recipe_of(module: nn.Module, side: int) -> PreprocessRecipe:
    own = detectors.recipe(module)
    if own.letterbox is None:
        return own
    return detectors.fitted(own.overridden(RecipeOverrides.model_validate({"letterbox": side})))


def candidates(parts: Detector, wanted: PreprocessRecipe, photo: Image.Image) -> Found:
    """In pixels of the photo."""
    placed = wanted.placement(*photo.size)
    rows = torch.tensor([list(placed)], dtype=torch.int32)
    pixels = wanted.reference_transform()(photo).unsqueeze(0)
    with torch.no_grad():
        given = parts.network(pixels, rows) if parts.takes_placement else parts.network(pixels)
        boxes, scores, classes = (tensor[0] for tensor in parts.outputs(given))
    boxes = boxes.clamp(min=0).minimum(torch.tensor([placed.width, placed.height] * 2))
    scale = torch.tensor([photo.width / placed.width, photo.height / placed.height] * 2)
    return Found(boxes * scale, scores, classes).above(0)


def hold(module: nn.Module, side: int) -> None:
    wanted = recipe_of(module, side)
    parts = detectors.detector(lively(module), wanted, MOST)
    rules = Rules(0.95, 0.5, 1e-4, 0, parts.iou_threshold, MOST)
    for photo in PHOTOS:
        with torch.no_grad():
            expected = parts.own(to_tensor(photo))
        ours = Found(*(expected[name] for name in ("boxes", "scores", "labels")))
        all_of_it = candidates(parts, wanted, photo)
        chosen = batched_nms(*all_of_it, parts.iou_threshold)[:MOST]
        theirs = Found(*(part[chosen] for part in all_of_it))
        same = match(ours, theirs, rules, functools.partial(candidates, parts, wanted, photo))
        # Of two that overlap, with scores that rounding changes, either may be left: few, and all others are the same.
        assert (same.missing, same.added) == (0, 0)
        assert same.pairs >= max(10, 0.8 * len(ours.scores))
        assert same.box_error <= 0.5
        assert same.score_error <= 1e-4


def test_all_of_torchvisions_that_give_boxes_alone_are_there() -> None:
    assert sorted(NAMES) == sorted(LISTED)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in SHORT else [pytest.mark.slow]) for name in NAMES]
)
def test_parts_find_what_the_whole_finds(name: str) -> None:
    hold(made(name), 128)


@pytest.mark.parametrize("kind", KINDS)
def test_small_ones_find_what_the_whole_finds(kind: str) -> None:
    """A backbone without a pyramid among them."""
    torch.manual_seed(0)
    hold(getattr(kinds, kind)(), kinds.SIDE)


ENTRY = """\
  {kind}_{format}:
    {{task: detection, network: kinds.py:{kind}, weights: {kind}.pth, format: {format}, score_threshold: 0.1}}
"""


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_candidates(kind: str, tmp_path: Path) -> None:
    """Over 10 s: three builds, each held to torchvision's whole pipeline as trained weights are, in batches."""
    torch.manual_seed(0)
    torch.save(lively(getattr(kinds, kind)()).state_dict(), tmp_path / f"{kind}.pth")
    shutil.copy(Path(kinds.__file__), tmp_path)
    formats = ("torchscript", "onnx", "openvino")
    built = build(tmp_path, "models:\n" + "".join(ENTRY.format(kind=kind, format=name) for name in formats))
    assert [model.name for model in built] == [f"{kind}_{name}" for name in formats]
    for model in built:
        figures = model.verification.figures()
        assert figures["score_error"] <= 1e-4
        assert model.verification.found_agreement == 1
        assert model.verification.box_error <= 0.5
        assert model.verification.undecided <= 0.2


@pytest.mark.parametrize("make", [models.maskrcnn_resnet50_fpn, models.keypointrcnn_resnet50_fpn])
def test_networks_that_give_more_than_boxes_are_refused_with_the_reason(make: type[nn.Module]) -> None:
    module = make(weights=None, weights_backbone=None, num_classes=3)
    assert not detectors.is_detector(module)
    assert "gives more than boxes" in detectors.refusal(module)


def test_other_networks_are_none_of_torchvisions_detectors() -> None:
    assert not detectors.is_detector(nn.Identity())
    assert detectors.refusal(nn.Identity()) == ""


WRONG = {
    "antialiased": ({"resize": (64, 64), "antialias": True}, "without antialiasing"),
    "cropped": ({"resize": 64, "crop": 64}, "see whole pictures"),
    "in the middle": ({"letterbox": {"size": (64, 64), "place": "center", "fill": "mean"}}, "in the corner"),
    "odd side": ({"letterbox": {"size": (100, 100)}}, "multiples of 32, not 100"),
}


@pytest.mark.parametrize("what", WRONG)
def test_recipes_that_torchvision_cannot_follow_are_refused(what: str) -> None:
    keys, message = WRONG[what]
    common = {"channels": 3, "antialias": False, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    with pytest.raises(ManifestError, match=message):
        detectors.fitted(PreprocessRecipe.model_validate(common | keys))
