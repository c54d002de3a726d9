"""Networks of timm: built, and held to timm's own pipeline on the real embedded server."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import warm
from conftest import ANY_PORTS, build
from PIL import Image
from timm.data import ImageNetInfo, create_transform, resolve_model_data_config
from training_sets import write_shapes

from builder.build.inputs import Reading, remembered
from builder.build.reference import make_network
from builder.build.run import resolve
from builder.compare.variants import entry_or_network
from builder.data.images import SAMPLES
from builder.errors import WeightsError
from builder.launchers import LAUNCHERS
from builder.manifest.models import load_manifest
from builder.networks import describe
from builder.networks.card import read_card
from builder.repository import lock
from builder.repository.history import history
from builder.training.run import train
from builder.training.spec import load_run
from builder.types import BuiltModel
from client import Client

ODD = {"crop_mode": "squash", "crop_pct": 0.9, "license": "cc-by-nc-4.0"}
"""As transformers of timm take pictures: distorted, then cropped."""
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("test_vit.r160_in1k", {}),
    "conv": ("test_efficientnet", {"num_classes": 7}),
    "odd": ("test_resnet.r160_in1k", {"pretrained_cfg_overlay": ODD}),
    "vectors": ("test_vit.r160_in1k", {"num_classes": 0}),
}
TASKS = {"vectors": "task: embedding, "}


def own(model: str) -> torch.nn.Module:
    name, arguments = MODELS[model]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module: torch.nn.Module = timm.create_model(name, **arguments).eval()
    for parameter in module.parameters():  # or random weights give the same to all pictures
        parameter.data.mul_(1.5)
    return module


def manifest(folder: Path) -> str:
    """With weights as they are found: of timm's keys, in a wrapper's, in an older form that timm itself renames."""
    rows = []
    for model, (name, arguments) in MODELS.items():
        state = own(model).state_dict()
        if model == "conv":
            state = {"state_dict": {f"module.{key}": value for key, value in state.items()}}
        if model == "vit":
            state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].flatten(1)
        torch.save(state, folder / f"{model}.pth")
        rows.append(
            f"  {model}: {{network: timm/{name}, arguments: {json.dumps(arguments)}, weights: {model}.pth, "
            f"{TASKS.get(model, '')}max_batch_size: 4}}\n"
        )
    return "models:\n" + "".join(rows)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, BuiltModel], str, Path]]:
    folder = tmp_path_factory.mktemp("timm")
    built = build(folder, manifest(folder))
    running = LAUNCHERS["embedded"].launch(folder / "repository", ANY_PORTS)
    yield {model.name: model for model in built}, running.endpoints.grpc, folder
    running.stop()


def picture(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.open(SAMPLES / "chelsea.jpg").convert("RGB").resize((width, height)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = (picture(151, 100), picture(33, 200), picture(1, 1), (SAMPLES / "coffee.jpg").read_bytes())


def expected(model: str) -> np.ndarray:
    """timm's own pipeline."""
    module = own(model)
    transform = create_transform(**resolve_model_data_config(module), is_training=False)
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in PICTURES]
    with torch.inference_mode():
        rows = module(torch.stack([transform(image) for image in images]))
    return (rows if model == "vectors" else rows.softmax(1)).numpy()


@pytest.mark.parametrize("model", ["vit", "conv", "odd"])
def test_from_the_bytes_to_the_probabilities_the_server_gives_what_timm_gives(served, model: str) -> None:
    theirs = expected(model)
    assert np.abs(theirs - theirs[0]).max() > 1e-4  # the pictures are told apart
    with Client(served[1]) as client:
        found = client.classify_batch(PICTURES, model, top=theirs.shape[1])
    labels = ImageNetInfo().label_descriptions() if model != "conv" else [None] * 7
    for row, predictions in zip(theirs, found, strict=True):
        for prediction in predictions:
            assert prediction.probability == pytest.approx(row[prediction.class_id], abs=1e-6, rel=1e-4)
            assert model == "conv" or prediction.label == labels[prediction.class_id]


def test_without_classes_the_server_gives_timms_vectors(served) -> None:
    theirs = expected("vectors")
    with Client(served[1]) as client:
        found = np.stack(client.embed_batch(PICTURES, "vectors"))
    np.testing.assert_allclose(found, theirs, atol=1e-4 * np.abs(theirs).max())


def test_builds_tell_how_the_file_was_read_and_what_its_licence_forbids(served) -> None:
    built, _, folder = served
    assert "checkpoint_filter_fn" in " ".join(built["vit"].notes)
    assert "without module." in " ".join(built["conv"].notes)
    assert "cc-by-nc-4.0, does not allow commercial use" in " ".join(built["odd"].notes)
    config = (folder / "repository" / "odd_torchscript" / "config.pbtxt").read_text("utf-8")
    assert 'key: "weights_license" value { string_value: "cc-by-nc-4.0" }' in config
    assert built["conv"].classes == 7
    (release,) = history(folder / "repository", "odd")
    assert "cc-by-nc-4.0" in release.origin.values()


def test_timms_version_is_part_of_what_a_build_was_made_of(served) -> None:
    _, _, folder = served
    entries = resolve(load_manifest(folder / "models.yaml"))
    now = Reading(remembered(folder / "repository")).of(entries[0])
    assert now["tools"]["timm"] == timm.__version__
    assert now["network"] == {"says": "timm/test_vit.r160_in1k"}  # and no file of that name
    assert "vit" in lock.read(folder / "repository")


@pytest.mark.slow
def test_it_learns_other_classes_from_its_own_weights_and_is_served_by_its_card(tmp_path: Path) -> None:
    torch.save(own("vit").state_dict(), tmp_path / "start.pth")
    changes = {"network": "timm/test_vit", "weights": str(tmp_path / "start.pth"), "learn": "head", "epochs": 1}
    data = {"root": str(write_shapes(tmp_path / "shapes", 4, side=24)), "workers": 0}
    result = train(load_run(None, changes | {"data": data, "out": str(tmp_path / "run")}))
    card = read_card(result.weights)
    assert card is not None
    assert (card.network, card.arguments["num_classes"], card.recipe.crop) == ("timm/test_vit", 3, (160, 160))
    (entry,) = resolve(load_manifest(write(tmp_path, "models:\n  m: {weights: run/best.safetensors}\n")))
    made = make_network(entry)
    assert made.labels == card.labels
    assert made.module.head.out_features == 3


def test_it_is_compared_by_its_name_alone(tmp_path: Path) -> None:
    alone = entry_or_network(None, tmp_path / "models.yaml", "timm/test_vit", "random")
    assert (alone.spec.network, alone.spec.task) == ("timm/test_vit", "classification")
    vectors = entry_or_network(None, tmp_path / "models.yaml", "timm/vit_small_patch14_dinov2", "random")
    assert vectors.spec.task == "embedding"


def write(folder: Path, text: str) -> Path:
    path = folder / "models.yaml"
    path.write_text(text)
    return path


def test_layers_are_told_without_weights() -> None:
    found = describe.describe("timm/test_vit")
    assert found.input == (3, 160, 160)
    assert found.parameters == sum(parameter.numel() for parameter in own("vit").parameters())


def test_weights_of_the_hub_are_taken_from_its_cache_and_what_is_not_there_is_told(tmp_path: Path) -> None:
    """timm's own loader and the hub's own client, without a network."""
    from safetensors.torch import save_file

    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "home" / "hub" / "models--timm--test_vit.r160_in1k"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    (place / "snapshots" / commit).mkdir(parents=True)
    save_file(own("vit").state_dict(), place / "snapshots" / commit / "model.safetensors")
    (tmp_path / "models.yaml").write_text(
        "models:\n  there:\n    network: timm/test_vit\n    max_batch_size: 2\n  away:\n    network: timm/test_resnet\n"
    )
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = warm.run("builder", cwd=tmp_path, environment=environment)
    assert done.returncode == WeightsError.exit_code, done.stderr
    assert "models.away.network: timm cannot load the weights test_resnet.r160_in1k from the hub's" in done.stderr
    assert "HF_HOME" in done.stderr
    assert "Traceback" not in done.stderr
    recorded = lock.read(tmp_path / "model_repository")
    assert "there" in recorded
    assert "away" not in recorded
    config = (tmp_path / "model_repository" / "there_torchscript" / "config.pbtxt").read_text("utf-8")
    assert f'key: "weights_revision" value {{ string_value: "{commit}" }}' in config
    assert 'key: "weights" value { string_value: "test_vit.r160_in1k" }' in config
    assert "weights_sha256" in config
