"""Segmenters: built, proved, and asked on the real embedded server."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.grpc as grpc
from PIL import Image
from tritonclient.utils import InferenceServerException

from builder.data.images import SAMPLES
from builder.launchers import LAUNCHERS
from tests.conftest import ANY_PORTS, build

SIDE = 64
MODULE = Path(__file__).parent / "networks" / "segmenters.py"


def entry(name: str, network: str = "segmenters.py:Small", **keys: str) -> str:
    said = {
        "task": "segmentation",
        "network": network,
        "weights": "random",
        "format": "onnx",
        "preprocess": f"{{channels: 3, resize: [{SIDE}, {SIDE}], mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}}",
        "max_batch_size": "4",
    } | keys
    return f"  {name}:\n" + "".join(f"    {key}: {value}\n" for key, value in said.items())


def made(folder: Path, *entries: str) -> Path:
    shutil.copy(MODULE, folder)
    build(folder, "models:\n" + "".join(entries))
    return folder / "repository"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, grpc.InferenceServerClient]]:
    """Each form of what a network may give, each kind of mask, and three formats."""
    folder = tmp_path_factory.mktemp("segmenters")
    torch.manual_seed(0)
    save_adopted(folder / "logits.onnx")
    repository = made(
        folder,
        entry("own", labels="[sky, sea, sand]"),
        entry("net", "segmenters.py:AsDict", size="network", format="torchscript"),
        entry("png", "segmenters.py:OneChannel", encode="png", format="openvino"),
        entry("numbers", "segmenters.py:Numbers"),
        entry("adopted").replace("    network: segmenters.py:Small\n    weights: random\n    format: onnx\n",
                                 "    artifact: logits.onnx\n"),
    )  # fmt: skip
    running = LAUNCHERS["embedded"].launch(repository, ANY_PORTS)
    with grpc.InferenceServerClient(running.endpoints.grpc) as client:
        yield repository, client
    running.stop()


def save_adopted(path: Path) -> None:
    from tests.networks.segmenters import Small

    axes = {"x": {0: "n"}, "y": {0: "n"}}
    torch.onnx.export(
        Small().eval(), (torch.zeros(2, 3, SIDE, SIDE),), str(path), input_names=["x"], output_names=["y"],
        dynamic_axes=axes, dynamo=False,
    )  # fmt: skip


def ask(client: grpc.InferenceServerClient, model: str, *pictures: bytes) -> np.ndarray:
    given = grpc.InferInput("IMAGE", [len(pictures), 1], "BYTES")
    given.set_data_from_numpy(np.array(pictures, np.object_)[:, None])
    return client.infer(model, [given]).as_numpy("MASK")


def picture(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    photo = Image.open(SAMPLES / "chelsea.jpg").convert("RGB")
    photo.resize((width, height)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("model", ["own", "numbers", "adopted"])
@pytest.mark.parametrize("size", [(150, 100), (1, 1), (33, 200)])
def test_masks_have_the_pictures_own_size(served, model: str, size: tuple[int, int]) -> None:
    mask = ask(served[1], model, picture(*size))
    assert (mask.dtype, mask.shape) == (np.uint8, (1, size[1], size[0]))
    assert mask.max() < 3


def test_masks_of_the_networks_size_hold_pictures_of_all_sizes(served) -> None:
    masks = ask(served[1], "net", picture(150, 100), picture(20, 90))
    assert masks.shape == (2, SIDE, SIDE)
    assert (masks[0] == ask(served[1], "net", picture(150, 100))[0]).all()


def test_files_of_several_sizes_are_answered_together(served) -> None:
    files = ask(served[1], "png", picture(150, 100), picture(20, 90)).ravel()
    masks = [Image.open(io.BytesIO(data)) for data in files]
    assert [(mask.mode, mask.size) for mask in masks] == [("P", (150, 100)), ("P", (20, 90))]
    assert masks[0].getpalette()[:6] == [0, 0, 0, 128, 0, 0]
    assert max(np.asarray(mask).max() for mask in masks) <= 1


def test_tensors_of_several_sizes_are_refused_with_the_way_out(served) -> None:
    with pytest.raises(InferenceServerException, match="one picture a request"):
        ask(served[1], "own", picture(150, 100), picture(20, 90))
    assert ask(served[1], "own", picture(15, 10), picture(15, 10)).shape == (2, 10, 15)


def test_clients_are_told_what_they_ask(served) -> None:
    parameters = served[1].get_model_config("own").config.parameters
    told = {key: parameters[key].string_value for key in ("task", "labels", "encode")}
    assert told == {"task": "segmentation", "labels": '["sky", "sea", "sand"]', "encode": "none"}
    golden = json.loads(next((served[0] / "own").glob("*/golden.json")).read_text())
    assert golden["samples"][0]["outputs"][0]["name"] == "MASK"
