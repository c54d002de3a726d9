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
from conftest import ANY_PORTS, build
from PIL import Image
from test_networks import Layers
from torchvision.models import get_model_builder
from tritonclient.utils import InferenceServerException

from builder.data.images import SAMPLES
from builder.errors import BuilderError, ManifestError, VerificationError
from builder.launchers import LAUNCHERS
from builder.networks import torchvision_segmentation
from builder.repository import golden
from builder.repository.golden import GoldenTensor

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


REFUSED = {
    "segmenters.py:TooMany": (BuilderError, "257 classes.*at most 256"),
    "segmenters.py:Nothing": (VerificationError, "NaN or infinite logits"),
    "segmenters.py:OfTheBatch": (VerificationError, "depends on the other images of its batch"),
    "segmenters.py:AnotherOneWhenTraced": (VerificationError, "does not compute what the network computes"),
    "small.py:small": (BuilderError, "give logits"),
}


@pytest.mark.parametrize("network", REFUSED)
def test_networks_that_give_no_masks_are_refused(network: str, tmp_path: Path) -> None:
    error, message = REFUSED[network]
    with pytest.raises(error, match=message):
        made(tmp_path, entry("m", network, format="torchscript"))
    assert not (tmp_path / "repository" / "m").exists()


def test_a_crop_has_no_mask_of_the_whole_picture(tmp_path: Path) -> None:
    crop = "{channels: 3, resize: 80, crop: 64}"
    with pytest.raises(ManifestError, match="size: network"):
        made(tmp_path, entry("m", preprocess=crop))
    made(tmp_path, entry("m", preprocess=crop, size="network", format="torchscript"))


SHAPES = 24


def drawn(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture of a bright disc and a red square on a dark ground, and its mask."""
    draw = np.random.default_rng(number)
    height, width = draw.integers(60, 120, 2)
    rows, columns = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.uint8)
    top, left = draw.integers(0, 30, 2)
    mask[top : top + 25, left : left + 25] = 1
    mask[(rows - height * 0.7) ** 2 + (columns - width * 0.7) ** 2 < draw.integers(10, 15) ** 2] = 2
    colours = np.array([[30, 30, 40], [200, 20, 20], [220, 230, 210]])
    noisy = colours[mask] + draw.normal(0, 12, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8), mask


def trained(folder: Path) -> None:
    """Drawn shapes, their masks, and a network that learnt them for a few seconds."""
    from tests.networks.segmenters import Small

    (folder / "pictures").mkdir(parents=True)
    (folder / "masks").mkdir()
    pixels, masks = [], []
    for number in range(SHAPES):
        image, mask = drawn(number)
        Image.fromarray(image).save(folder / "pictures" / f"{number}.png")
        if number % 2:
            Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
        else:
            np.save(folder / "masks" / f"{number}.npy", mask)
        small, target = (Image.fromarray(a).resize((SIDE, SIDE), kind) for a, kind in ((image, 2), (mask, 0)))
        pixels.append((torch.tensor(np.array(small)).permute(2, 0, 1) / 255 - 0.5) / 0.25)
        masks.append(torch.tensor(np.array(target)).long())
    torch.manual_seed(0)
    network = Small()
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(120):
        logits = torch.nn.functional.interpolate(network(torch.stack(pixels)), (SIDE, SIDE), mode="bilinear")
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(logits, torch.stack(masks)).backward()
        optimiser.step()
    torch.save(network.state_dict(), folder / "weights.pt")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    trained(folder)
    return folder


def test_given_masks_tell_how_good_network_and_artifact_are(shapes: Path, tmp_path: Path) -> None:
    """Trained for some seconds on drawn shapes, a network finds them again, and so does what was made of it."""
    shutil.copytree(shapes, tmp_path, dirs_exist_ok=True)
    shutil.copy(MODULE, tmp_path)
    keys = {"weights": "weights.pt", "images": "{data: pictures, masks: masks}"}
    (built,) = build(tmp_path, "models:\n" + entry("shapes", **keys))
    found = built.verification.figures()
    assert found["network_miou"] > 0.8
    assert found["artifact_miou"] == pytest.approx(found["network_miou"], abs=1e-3)
    assert found["pixel_agreement"] >= 0.999
    assert found["undecided"] < 0.01


def test_masks_that_are_not_the_pictures_are_named(shapes: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes, tmp_path, dirs_exist_ok=True)
    keys = {"weights": "weights.pt", "images": "{data: pictures, masks: masks}"}
    np.save(tmp_path / "masks" / "0.npy", np.zeros((3, 3), np.uint8))
    with pytest.raises(ManifestError, match=r"0\.npy is \[3, 3\], and its picture"):
        made(tmp_path, entry("m", **keys))
    shutil.rmtree(tmp_path / "masks")
    (tmp_path / "masks").mkdir()
    with pytest.raises(ManifestError, match="there is no mask in"):
        made(tmp_path, entry("m", **keys))


def test_torchvisions_own_network(tmp_path: Path) -> None:
    keys = {"preprocess": "{resize: [96, 96]}", "max_batch_size": "2", "format": "torchscript", "size": "network"}
    made(tmp_path, entry("m", "lraspp_mobilenet_v3_large", **keys))
    config = (tmp_path / "repository" / "m" / "config.pbtxt").read_text()
    assert "aeroplane" in config
    assert "dims: [ 96, 96 ]" in config or "96" in config


def test_every_torchvision_segmenter_is_there() -> None:
    from torchvision.models import list_models, segmentation

    assert sorted(torchvision_segmentation.names()) == sorted(list_models(segmentation))
    facts = [torchvision_segmentation.facts(name) for name in torchvision_segmentation.names()]
    assert all(one.task == "segmentation" and one.miou and 50 < one.miou < 80 for one in facts)


@pytest.mark.parametrize("name", torchvision_segmentation.names())
def test_layers_in_the_table_are_those_of_the_network(name: str) -> None:
    with torch.device("meta"):
        module = get_model_builder(name)(weights=None, weights_backbone=None).eval()
    assert Layers().depth(module) == torchvision_segmentation.LAYERS[name]


def test_recorded_masks_may_differ_by_some_pixels() -> None:
    mask = np.zeros((1, 100, 100), np.uint8)
    few, many = mask.copy(), mask.copy()
    few[0, 0, :5], many[0, 0, :50] = 1, 1

    def told(values: np.ndarray, name: str = "MASK") -> GoldenTensor:
        return GoldenTensor(name, "UINT8", values.shape, values.tobytes())

    assert golden.difference(told(mask), told(few), 1e-3) == ""
    assert "0.50% of its pixels" in golden.difference(told(mask), told(many), 1e-3)
    assert golden.difference(told(mask, "N"), told(few, "N"), 1e-3)


@pytest.mark.parametrize("compression", [0, 9])
def test_recorded_files_are_compared_as_masks(compression: int) -> None:
    def told(values: np.ndarray, **options: int) -> GoldenTensor:
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, "PNG", **options)
        data = buffer.getvalue()
        return GoldenTensor("MASK", "BYTES", (1, 1), len(data).to_bytes(4, "little") + data)

    mask = np.arange(100, dtype=np.uint8).reshape(10, 10)
    assert golden.difference(told(mask), told(mask, compress_level=compression), 0) == ""
    assert golden.difference(told(mask), told(mask.T.copy(), compress_level=compression), 1e-3)
    assert golden.difference(told(mask), GoldenTensor("MASK", "BYTES", (1, 1), b"\1\0\0\0x"), 1e-3)
