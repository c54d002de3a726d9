"""Networks of pictures, out of snapshots: from encoded bytes on, answers are those of transformers' own pipeline."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
from conftest import ANY_PORTS, build
from PIL import Image

from builder.data.images import SAMPLES
from builder.launchers import LAUNCHERS
from builder.networks.huggingface import processors
from builder.networks.huggingface.snapshot import Snapshot
from tests.snapshots import (
    NAMED,
    PATCHES,
    SIZED,
    SQUARE,
    detector_snapshot,
    picture_snapshot,
)

VIT = PATCHES | {"image_size": 64, "patch_size": 16}
SEGFORMER = {
    "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [4, 2], "hidden_sizes": [16, 32], "patch_sizes": [7, 3],
    "strides": [4, 2], "num_attention_heads": [1, 2], "mlp_ratios": [2, 2], "decoder_hidden_size": 32,
}  # fmt: skip
WIDE, HIGH = (140, 105), (70, 160)
"""DETR's processor rounds the shorter side where the longer one is the limit: of WIDE it is a whole number."""


def picture(size: tuple[int, int] = WIDE, sample: str = "chelsea") -> bytes:
    """A photo without loss, as many pixels wide and high."""
    buffer = io.BytesIO()
    Image.open(SAMPLES / f"{sample}.jpg").convert("RGB").resize(size).save(buffer, "PNG")
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def own(folder: Path, end: str, **told: Any) -> tuple[Any, Any]:
    """transformers' processor and network of a snapshot."""
    import transformers

    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil", **told)
    return processor, getattr(transformers, f"AutoModel{end}").from_pretrained(folder).eval()


def written(root: Path) -> None:
    picture_snapshot(root / "vit", "ViT", "ForImageClassification", VIT, "ViT", **SQUARE)
    picture_snapshot(root / "segformer", "Segformer", "ForSemanticSegmentation", SEGFORMER, "Segformer", **SQUARE)
    detector_snapshot(root / "detr", "Detr")
    detector_snapshot(root / "rt", "RTDetr")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, grpc.InferenceServerClient]]:
    """One of each task; of detectors, one that is told of a border, and one that takes squares."""
    root = tmp_path_factory.mktemp("pictures")
    written(root)
    build(
        root,
        """models:
  vit: {network: 'hf:vit', format: openvino, max_batch_size: 4}
  segformer: {task: segmentation, network: 'hf:segformer', format: torchscript, max_batch_size: 4}
  detr: {task: detection, network: 'hf:detr', format: torchscript, max_batch_size: 2, score_threshold: 0.0}
  rt: {task: detection, network: 'hf:rt', format: torchscript, max_batch_size: 2, score_threshold: 0.0}
""",
    )
    running = LAUNCHERS["embedded"].launch(root / "repository", ANY_PORTS)
    with grpc.InferenceServerClient(running.endpoints.grpc) as client:
        yield root, client
    running.stop()


def ask(client: grpc.InferenceServerClient, model: str, *pictures: bytes) -> Any:
    given = grpc.InferInput("IMAGE", [len(pictures), 1], "BYTES")
    given.set_data_from_numpy(np.array(pictures, np.object_)[:, None])
    return client.infer(model, [given])


def test_a_classifier_has_transformers_probabilities_and_labels(served: Any) -> None:
    import torch

    root, client = served
    processor, network = own(root / "vit", "ForImageClassification")
    photos = [picture(WIDE), picture(HIGH, "coffee")]
    with torch.no_grad():
        wanted = network(**processor([opened(photo) for photo in photos], return_tensors="pt")).logits.softmax(-1)
    answer = ask(client, "vit", *photos)
    name = next(output["name"] for output in client.get_model_metadata("vit", as_json=True)["outputs"])
    assert np.abs(answer.as_numpy(name) - wanted.numpy()).max() < 1e-5
    assert network.config.id2label[0] == NAMED[0]
    (root / "repository" / "vit" / "labels.txt").exists()


def test_a_segmenter_has_transformers_mask_of_its_input(served: Any) -> None:
    """transformers leads logits to the picture's size; here the classes of the input's pixels are."""
    import torch

    root, client = served
    processor, network = own(root / "segformer", "ForSemanticSegmentation")
    photo = picture((64, 64), "coffee")  # of the input's size, where both are one
    with torch.no_grad():
        given = network(**processor(opened(photo), return_tensors="pt"))
    (wanted,) = processor.post_process_semantic_segmentation(given, target_sizes=[(64, 64)])
    mask = ask(client, "segformer", photo).as_numpy("MASK")[0]
    assert len(np.unique(wanted)) > 1
    assert (mask == wanted.numpy()).mean() > 0.999
    assert ask(client, "segformer", picture(WIDE)).as_numpy("MASK").shape == (1, WIDE[1], WIDE[0])


@pytest.mark.parametrize(("model", "size"), [("detr", WIDE), ("detr", HIGH), ("rt", WIDE), ("rt", HIGH)])
def test_a_detector_finds_what_transformers_finds(served: Any, model: str, size: tuple[int, int]) -> None:
    import torch

    root, client = served
    padded = {"pad_size": {"height": SIZED["longest_edge"], "width": SIZED["longest_edge"]}} if model == "detr" else {}
    processor, network = own(root / model, "ForObjectDetection")
    photo = picture(size, "rocket")
    with torch.no_grad():
        given = network(**processor(opened(photo), return_tensors="pt", **padded))
    (wanted,) = processor.post_process_object_detection(given, threshold=0.0, target_sizes=[size[::-1]])
    answer = ask(client, model, photo)
    count = int(answer.as_numpy("COUNT").ravel()[0])
    order = wanted["scores"].argsort(descending=True)
    limits = torch.tensor([*size, *size])
    assert count == len(order) > 5
    assert np.abs(answer.as_numpy("SCORES")[0, :count] - wanted["scores"][order].numpy()).max() < 1e-5
    assert (answer.as_numpy("CLASSES")[0, :count] == wanted["labels"][order].numpy()).all()
    boxes = wanted["boxes"][order].clamp(min=0).minimum(limits)  # transformers lets them reach beyond the picture
    assert np.abs(answer.as_numpy("BOXES")[0, :count] - boxes.numpy()).max() < 1e-2


PIXELS: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("ViT", {}),
    "ViT, bicubic, no square": ("ViT", {"size": {"height": 224, "width": 256}, "resample": 3}),
    "ViT, neither scaled nor normalised": ("ViT", {"do_rescale": False, "do_normalize": False}),
    "DeiT": ("DeiT", {}),
    "ConvNeXT of 384": ("ConvNext", {}),
    "ConvNeXT of 224": ("ConvNext", {"size": {"shortest_edge": 224}, "crop_pct": 0.875}),
    "EfficientNet, twice divided": ("EfficientNet", {}),
    "EfficientNet, from -1 on": (
        "EfficientNet",
        {"rescale_offset": True, "rescale_factor": 1 / 127.5, "include_top": False},
    ),
    "MobileNetV1": ("MobileNetV1", {}),
    "MobileNetV2": ("MobileNetV2", {}),
    "MobileViT, blue first": ("MobileViT", {"size": {"shortest_edge": 288}}),
    "BEiT": ("Beit", {}),
    "BiT, as DINOv2 has it": ("Bit", {}),
    "CLIP": ("CLIP", {}),
    "SigLIP": ("Siglip", {}),
    "LeViT": ("Levit", {}),
    "PoolFormer": ("PoolFormer", {}),
    "SegFormer": ("Segformer", {}),
    "DPT": ("DPT", {}),
    "RT-DETR": ("RTDetr", {}),
    "DETR": ("Detr", {}),
    "Conditional DETR": ("ConditionalDetr", {}),
    "Deformable DETR": ("DeformableDetr", {}),
}
ROUNDED = ("ViT, neither scaled nor normalised",)
"""Divided by 255 first, as all pictures are here, and then by 1/255."""
FINDS = ("RTDetr", "Detr", "ConditionalDetr", "DeformableDetr")


@pytest.mark.parametrize("case", PIXELS)
def test_pixels_are_those_of_the_processor(tmp_path: Path, case: str) -> None:
    """To the last bit. Of an odd border, transformers puts the pixel more after the crop; torchvision, which recipes
    follow, to the even side: the crop is then a pixel aside.
    """
    import transformers

    name, told = PIXELS[case]
    processor = getattr(transformers, f"{name}ImageProcessorPil")(**told)
    processor.save_pretrained(tmp_path)
    recipe = processors.recipe_of(Snapshot(case, tmp_path), transformers, name in FINDS)
    padding = {"pad_size": {"height": 1333, "width": 1333}} if recipe.letterbox else {}
    equal = 0
    for photo in (SAMPLES / f"{sample}.jpg" for sample in ("astronaut", "chelsea", "coffee", "rocket")):
        for image in (Image.open(photo).convert("RGB"), Image.open(photo).convert("RGB").rotate(90, expand=True)):
            wanted = processor(image, return_tensors="pt", **padding)["pixel_values"][0].numpy()
            given = recipe.reference_transform()(image).numpy()
            is_equal = (wanted == given).all() or (case in ROUNDED and np.allclose(wanted, given, rtol=1e-6, atol=0))
            equal += bool(is_equal)
            assert is_equal or (recipe.crop and recipe.resize and len(recipe.resize) == 1 and is_aside(wanted, given))
    assert equal >= 5


def is_aside(wanted: Any, given: Any) -> bool:
    """Whether the two are crops a pixel apart."""
    return bool((wanted[:, 1:] == given[:, :-1]).all() or (wanted[:, :, 1:] == given[:, :, :-1]).all())
