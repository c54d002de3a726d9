"""Networks of pictures of many kinds, out of snapshots: each is built, and held to transformers' own network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import build

from tests.snapshots import CONVOLUTIONS, DETECTORS, PATCHES, SQUARE, detector_snapshot, picture_snapshot

pytestmark = pytest.mark.slow

IMAGE = PATCHES | {"image_size": 64, "patch_size": 16}
CROPPED = {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}}
HIDDEN = [16, 24, 32, 48]
SWIN = {"image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
VIT_LIKE = {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 24, 32, 32, 48], "num_attention_heads": 2}
CLASSIFIERS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "DeiT": (IMAGE, "DeiT", SQUARE | {"crop_size": SQUARE["size"]}),
    "Beit": (IMAGE, "Beit", SQUARE),
    "Dinov2": (PATCHES | {"image_size": 64, "patch_size": 16}, "Bit", CROPPED),
    "ConvNext": ({"hidden_sizes": HIDDEN, "depths": [1, 1, 1, 1]}, "ConvNext", {"size": {"shortest_edge": 64}}),
    "ResNet": (CONVOLUTIONS, "ConvNext", {"size": {"shortest_edge": 64}}),
    "Swin": (SWIN, "ViT", SQUARE),
    "MobileNetV2": ({"depth_multiplier": 0.35, "image_size": 64}, "MobileNetV2", CROPPED),
    "MobileViT": (VIT_LIKE | {"image_size": 64, "num_labels": 5}, "MobileViT", CROPPED),
}
SEGMENTERS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "MobileNetV2": ({"depth_multiplier": 0.35, "image_size": 64}, "MobileNetV2", CROPPED),
    "MobileViT": (VIT_LIKE | {"image_size": 64, "aspp_out_channels": 16}, "MobileViT", CROPPED),
}
FORMS = ("torchscript", "onnx", "openvino")


def built(root: Path, text: str) -> Any:
    (model,) = build(root, f"models:\n  m: {{{text}, max_batch_size: 2}}\n")
    return model.verification


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(tmp_path: Path, name: str, form: str) -> None:
    config, processor, told = CLASSIFIERS[name]
    picture_snapshot(tmp_path / "net", name, "ForImageClassification", config, processor, **told)
    assert built(tmp_path, f"network: 'hf:net', format: {form}").max_abs_error < 1e-5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SEGMENTERS)
def test_segmenters(tmp_path: Path, name: str, form: str) -> None:
    config, processor, told = SEGMENTERS[name]
    picture_snapshot(tmp_path / "net", name, "ForSemanticSegmentation", config, processor, **told)
    found = built(tmp_path, f"task: segmentation, network: 'hf:net', format: {form}, size: network")
    assert found.pixel_agreement > 0.999


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", DETECTORS)
def test_detectors(tmp_path: Path, name: str, form: str) -> None:
    detector_snapshot(tmp_path / "net", name)
    found = built(tmp_path, f"task: detection, network: 'hf:net', format: {form}")
    assert (found.found_agreement, found.undecided) == (1.0, 0.0)
    shutil.rmtree(tmp_path / "repository")
