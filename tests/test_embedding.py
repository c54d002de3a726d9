"""Vectors of pictures: built, proved, and asked on the real embedded server."""

import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.grpc as grpc
from conftest import ANY_PORTS, build
from PIL import Image
from torchvision.transforms.functional import normalize, resize, to_tensor
from tritonclient.utils import InferenceServerException

from builder.build.run import build_repository, resolve
from builder.data.images import SAMPLES
from builder.errors import BuilderError, ManifestError, NetworkError, VerificationError
from builder.launchers import LAUNCHERS
from builder.manifest.models import load_manifest
from builder.tasks.embedding import comparison
from builder.tasks.embedding.limits import LIMITS, Tolerance, limits
from builder.types import BuiltModel
from client import Client, InvalidInput

SIDE = 64
ROOT = Path(__file__).parent.parent
MODULE = Path(__file__).parent / "networks" / "embedders.py"
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
RECIPE = f"{{channels: 3, resize: [{SIDE}, {SIDE}], mean: {MEAN}, std: {STD}}}"
LEAST_COSINE = 0.9999


def entry(name: str = "m", network: str = "embedders.py:Small", **keys: str) -> str:
    said = {
        "task": "embedding",
        "network": network,
        "weights": "random",
        "format": "torchscript",
        "preprocess": RECIPE,
        "max_batch_size": "4",
    } | keys
    return f"  {name}:\n" + "".join(f"    {key}: {value}\n" for key, value in said.items() if value)


def made(folder: Path, *entries: str) -> list[BuiltModel]:
    shutil.copy(MODULE, folder)
    return build(folder, "models:\n" + "".join(entries))


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    from tests.networks.embedders import Small

    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, network: torch.nn.Module
) -> Iterator[tuple[dict[str, BuiltModel], str, str]]:
    """The three formats at three layers, two precisions below fp32, a file that is adopted; at their ports."""
    folder = tmp_path_factory.mktemp("embedders")
    torch.save(network.state_dict(), folder / "small.pth")
    pixels = torch.zeros(2, 3, SIDE, SIDE)
    axes = {"x": {0: "n"}, "y": {0: "n"}}
    torch.onnx.export(network, (pixels,), str(folder / "whole.onnx"), input_names=["x"], output_names=["y"],
                      dynamic_axes=axes, dynamo=False)  # fmt: skip
    own = {"weights": "small.pth"}
    built = made(
        folder,
        entry("onnx", **own, format="onnx", layer="avgpool", normalize="l2"),
        entry("openvino", **own, format="openvino", layer="middle"),
        entry("torchscript", **own, layer="flatten", normalize="l2"),
        entry("unfollowed", "embedders.py:Unfollowed", **own, layer="middle"),
        entry("half", **own, format="openvino", precision="fp16", layer="flatten", normalize="l2"),
        entry("int8", **own, format="onnx", precision="int8", calibration=str(SAMPLES), layer="flatten"),
        entry("adopted", "", artifact="whole.onnx", weights="", format=""),
        entry("dark", "embedders.py:Alone", normalize="l2", preprocess=f"{{channels: 3, resize: [{SIDE}, {SIDE}]}}"),
    )
    running = LAUNCHERS["embedded"].launch(folder / "repository", ANY_PORTS)
    yield {model.name: model for model in built}, running.endpoints.grpc, running.endpoints.http
    running.stop()


def picture(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.open(SAMPLES / "chelsea.jpg").convert("RGB").resize((width, height)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = (picture(150, 100), picture(1, 1), picture(33, 200), (SAMPLES / "coffee.jpg").read_bytes())


def pixels_of(data: bytes) -> torch.Tensor:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return normalize(to_tensor(resize(image, [SIDE, SIDE])), MEAN, STD)


def own(network: torch.nn.Module, model: str, *pictures: bytes) -> np.ndarray:
    """The network's own pipeline, written out for these: torchvision's transforms, and PyTorch."""
    with torch.inference_mode():
        rows = network.avgpool(network.features(torch.stack([pixels_of(data) for data in pictures]))).flatten(1)
        if model in ("openvino", "unfollowed", "adopted"):
            rows = network.middle(rows)
        if model == "adopted":
            rows = network.classes(rows.relu())
        if model in ("onnx", "torchscript", "half"):
            rows = torch.nn.functional.normalize(rows)
    return rows.numpy()


def cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)


@pytest.mark.parametrize("model", ["onnx", "openvino", "torchscript", "unfollowed", "adopted"])
def test_from_the_bytes_to_the_vector_the_server_gives_what_the_network_gives(served, network, model: str) -> None:
    expected = own(network, model, *PICTURES)
    with Client(served[1]) as client:
        found = np.stack(client.embed_batch(PICTURES, model))
        alone = np.stack([client.embed(data, model) for data in PICTURES])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(alone, expected, atol=1e-4 * np.abs(expected).max())
    assert cosines(found, expected).min() >= LEAST_COSINE


@pytest.mark.parametrize(("model", "precision"), [("half", "fp16"), ("int8", "int8")])
def test_lower_precisions_are_served_within_their_limits(served, network, model: str, precision: str) -> None:
    expected = own(network, model, *PICTURES)
    with Client(served[1]) as client:
        found = np.stack(client.embed_batch(PICTURES, model))
    assert cosines(found, expected).min() >= LIMITS[precision].cosine
    figures = served[0][model].verification.figures()
    assert figures["cosine"] >= LIMITS[precision].cosine
    assert 0 < figures["relative_error"] <= LIMITS[precision].relative_error


def test_builds_tell_how_near_the_vectors_are(served) -> None:
    for name in ("onnx", "openvino", "torchscript", "unfollowed", "adopted"):
        figures = served[0][name].verification.figures()
        assert figures["cosine"] >= LEAST_COSINE, name
        assert figures["relative_error"] <= 0.01, name
        assert figures["neighbour_agreement"] == 1, name


def test_vectors_are_of_length_one_where_that_is_asked(served) -> None:
    with Client(served[1]) as client:
        lengths = {name: float(np.linalg.norm(client.embed(PICTURES[0], name))) for name in ("onnx", "openvino")}
        assert client.model("onnx").parameters["normalize"] == "l2"
        assert client.model("openvino").parameters["normalize"] == "none"
    assert lengths["onnx"] == pytest.approx(1, abs=1e-5)
    assert lengths["openvino"] != pytest.approx(1, abs=1e-3)


def test_what_is_no_picture_is_refused_and_the_others_are_not(served) -> None:
    with Client(served[1]) as client:
        with pytest.raises(InvalidInput):
            client.embed(b"no picture", "onnx")
        outcomes = list(client.embed_many([PICTURES[0], b"no picture", PICTURES[1]], "onnx"))
        assert [outcome.error is None for outcome in outcomes] == [True, False, True]
        with pytest.raises(InvalidInput, match="there are no images"):
            client.embed_batch([], "onnx")


def test_a_vector_without_a_direction_is_told_as_the_servers_fault(served) -> None:
    """Black gives zeros, which have no length to divide by; pictures beside it have their vectors."""
    black = io.BytesIO()
    Image.new("RGB", (9, 9)).save(black, "PNG")
    with Client(served[1]) as client:
        outcomes = list(client.embed_many([PICTURES[0], black.getvalue()], "dark"))
    assert [outcome.error is None for outcome in outcomes] == [True, False]
    assert "not finite" in str(outcomes[1].error)


def test_the_command_finds_like_pictures_in_a_folder(served, tmp_path: Path) -> None:
    for name in ("coffee", "rocket", "chelsea"):
        shutil.copy(SAMPLES / f"{name}.jpg", tmp_path)
    Image.open(SAMPLES / "coffee.jpg").resize((300, 200)).save(tmp_path / "smaller.png")
    (tmp_path / "torn.jpg").write_bytes((SAMPLES / "rocket.jpg").read_bytes()[:500])

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "client.cli", *arguments, "--model", "onnx", "--url", served[1]]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    told = run("similar", str(tmp_path), "--to", str(tmp_path / "coffee.jpg"), "--top", "2")
    assert [Path(line.split()[-1]).name for line in told.stdout.splitlines()] == ["coffee.jpg", "smaller.png"]
    assert "torn.jpg: left out" in told.stderr
    pairs = run("similar", str(tmp_path), "--duplicates", "--threshold", "0.9999")
    assert [Path(line.split()[-1]).name for line in pairs.stdout.splitlines()] == ["smaller.png"], pairs
    shown = run("embed", str(tmp_path / "coffee.jpg"))
    assert (shown.returncode, "16 numbers: " in shown.stdout) == (0, True)


def test_the_server_itself_refuses_other_tensors(served) -> None:
    with grpc.InferenceServerClient(served[1]) as client:
        given = grpc.InferInput("IMAGE", [1, 1], "BYTES")
        given.set_data_from_numpy(np.array([[b""]], np.object_))
        with pytest.raises(InferenceServerException):
            client.infer("onnx", [given])


REFUSED = {
    "embedders.py:NotANumber": (VerificationError, "NaN or infinite numbers"),
    "embedders.py:OfTheBatch": (VerificationError, "depends on the other images of its batch"),
    "embedders.py:ByChance": (VerificationError, "when it is run twice"),
    "embedders.py:TurnedWhenTraced": (VerificationError, r"cosine of .* is 0\.\d+ \(limit 0.9999\)"),
    "embedders.py:BlindWhenTraced": (VerificationError, "as a share of what the images change, is"),
    "embedders.py:Maps": (BuilderError, "one vector an image.*behind its pooling"),
    "embedders.py:Tokens": (BuilderError, "one vector an image.*one of the tokens"),
}


@pytest.mark.parametrize("network", REFUSED)
def test_networks_and_artifacts_that_are_wrong_are_refused(network: str, tmp_path: Path) -> None:
    error, message = REFUSED[network]
    with pytest.raises(error, match=message):
        made(tmp_path, entry("m", network))
    assert not (tmp_path / "repository" / "m").exists()


@pytest.mark.parametrize(
    ("network", "layer", "message"),
    [
        ("embedders.py:Small", "avgpol", "has no layer 'avgpol'; did you mean avgpool"),
        ("embedders.py:Small", "zzz", "has no layer 'zzz'; its last ones are .*flatten, middle, relu, classes"),
        ("embedders.py:Small", "x", "has no layer 'x'"),
        ("embedders.py:Unfollowed", "midle", "did you mean middle.*not one that torch.fx can follow"),
        ("embedders.py:Small", "features", "one vector an image.*layer: avgpool"),
    ],
)
def test_layers_that_are_not_there_or_give_no_vectors(network: str, layer: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((NetworkError, VerificationError), match=message):
        made(tmp_path, entry("m", network, layer=layer))


def test_keys_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="int8 needs `calibration"):
        made(tmp_path, entry(precision="int8", format="onnx", layer="flatten"))
    with pytest.raises(ManifestError, match="normalize"):
        made(tmp_path, entry(normalize="l3"))


def test_limits_that_the_manifest_sets_decide(tmp_path: Path) -> None:
    wide = "{cosine: -1.0, relative_error: 9.0, neighbour_agreement: 0.0}"
    (built,) = made(tmp_path, entry("m", "embedders.py:TurnedWhenTraced", tolerance=wide))
    assert built.verification.figures()["cosine"] < 0.99


def compared(ours: list[list[float]], theirs: list[list[float]]) -> comparison.EmbeddingVerification:
    names = [str(number) for number in range(len(ours))]
    return comparison.compare([torch.tensor(ours)], [torch.tensor(theirs)], (1,), names)


def test_figures_are_those_of_their_definitions() -> None:
    found = compared([[1, 0], [0, 2], [0, 1.5]], [[1, 0], [0.3, 2], [1.5, 0]])
    assert (found.cosine, found.worst) == (pytest.approx(0), "2")
    assert found.relative_error == pytest.approx(1.5 * 2**0.5 / 5**0.5)
    assert found.neighbour_agreement == pytest.approx(1 / 3)  # 2 is no longer beside 1, but for what 1 is


def test_zeros_are_like_zeros_and_nothing_else() -> None:
    assert compared([[0, 0], [1, 0.5]], [[0, 0], [1, 0.5]]).cosine == pytest.approx(1)
    wrong = compared([[0, 0], [1, 0.5]], [[0.1, 0], [1, 0.5]])
    with pytest.raises(VerificationError, match="cosine of 0 is nan"):
        comparison.require(wrong, limits("int8", Tolerance.model_validate({})), "m")


def test_the_example_builds(tmp_path: Path) -> None:
    """Over 10 s: EfficientNet-Lite0 with its weights, in fp32; int8 is told apart from it, and not built."""
    entries = resolve(load_manifest(ROOT / "examples" / "embedding" / "models.yaml"))
    assert [(entry.name, entry.spec.precision) for entry in entries] == [
        ("lite0_vectors", "fp32"),
        ("lite0_vectors_int8", "int8"),
    ]
    outcome = build_repository(entries[:1], tmp_path / "repository")
    assert not outcome.failed
    figures = outcome.built[0].verification.figures()
    assert figures["cosine"] >= LEAST_COSINE
    assert figures["neighbour_agreement"] == 1
