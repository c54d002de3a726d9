"""Detections: the step that chooses them, the proof of artifacts, and a build that is served."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.grpc as grpc
from conftest import ANY_PORTS, build, write_manifest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.ops import batched_nms, box_convert, nms

from builder.build.entry import Entry, resolve
from builder.build.reference import study
from builder.errors import BuilderError, ManifestError, VerificationError
from builder.launchers import LAUNCHERS
from builder.manifest.models import load_manifest
from builder.repository import golden
from builder.steps import STEPS
from builder.steps.detections import DetectionSettings
from builder.tasks.detection.annotations import Annotations, Truth, mean_average_precision
from builder.tasks.detection.found import Found
from builder.tasks.detection.matching import Rules, match
from builder.tasks.task import Reference
from builder.types import BuiltModel, Predict, Tensors

SIZE = (40, 60)
WHOLE = np.array([40, 60, 0, 0, 40, 60], np.int32)


def chosen(layout: str = "candidates", **changes: object) -> Callable[..., tuple[np.ndarray, ...]]:
    """The step, which takes whatever it is given, of whatever number."""
    said = {"score_threshold": 0.3, "iou_threshold": 0.5, "max_detections": 6, "network_size": SIZE, "tensors": ()}
    return STEPS["detections"].function(DetectionSettings.model_validate(said | {"layout": layout} | changes))


boxes_drawn = st.lists(
    st.tuples(*(st.integers(0, 30) for _ in range(4)), st.integers(0, 1000), st.integers(0, 2)), max_size=30
)


@settings(max_examples=150, deadline=None)
@given(boxes_drawn, st.sampled_from([0.0, 0.3, 0.5, 0.9]), st.integers(1, 8))
def test_the_step_keeps_what_torchvision_keeps(drawn: list[tuple[int, ...]], overlap: float, most: int) -> None:
    rows = np.array(drawn, np.float32).reshape(-1, 6)
    boxes = np.concatenate((rows[:, :2], rows[:, :2] + rows[:, 2:4] + 1), 1)
    # No two scores are equal: which of them is first, torchvision leaves open.
    scores = (rows[:, 4] + np.linspace(0, 0.5, len(rows), dtype=np.float32)) / np.float32(1001)
    classes = rows[:, 5].astype(np.int32)
    step = chosen(iou_threshold=overlap, max_detections=most)
    found = step(boxes, scores, classes, WHOLE)
    clipped = np.clip(boxes, 0, [60, 40, 60, 40]).astype(np.float32)
    kept = []
    for number in range(3):
        mine = np.nonzero((classes == number) & (scores > np.float32(0.3)))[0]
        kept += mine[nms(torch.tensor(clipped[mine]), torch.tensor(scores[mine]), overlap).numpy()].tolist()
    kept = sorted(kept, key=lambda i: -scores[i])[:most]
    assert len(found[1]) == len(kept)
    for ours, theirs in zip(found, (clipped, scores, classes), strict=True):
        assert np.array_equal(ours, theirs[kept])


RAW_BOX = {"xyxy": (10, 8, 30, 24), "cxcywh": (20, 16, 20, 16), "xywh": (10, 8, 20, 16)}


@pytest.mark.parametrize("box", RAW_BOX)
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("layout", ["boxes_scores", "yolo"])
def test_layouts_say_the_same(layout: str, box: str, normalized: bool) -> None:
    one = np.array([RAW_BOX[box]], np.float32) / (np.array([60, 40] * 2) if normalized else 1)
    scores = np.array([[0.1, 0.8, 0.0]], np.float32)
    raw = (one, scores) if layout == "boxes_scores" else (np.concatenate((one, scores), 1).T,)
    step = chosen(layout, box=box, normalized=normalized)
    boxes, given_scores, classes = step(*raw, np.array([80, 120, 0, 0, 40, 60], np.int32))
    assert len(boxes) == 1
    assert boxes[0].tolist() == pytest.approx([20, 16, 60, 48], abs=1e-3)
    assert (given_scores[0], classes[0]) == (np.float32(0.8), 1)


def test_the_background_is_no_detection_and_logits_become_scores() -> None:
    box, logits = np.array([[10, 8, 30, 24]], np.float32), np.array([[3.0, 2.0, 1.0]], np.float32)
    sigmoid = chosen("boxes_scores", activation="sigmoid", background=0)
    softmax = chosen("boxes_scores", activation="softmax", score_threshold=0.2)
    _, scores, classes = sigmoid(box, logits, WHOLE)
    assert classes.tolist() == [1, 2]
    assert scores[:2].tolist() == pytest.approx(torch.tensor([2.0, 1.0]).sigmoid().tolist())
    assert softmax(box, logits, WHOLE)[1][:2].tolist() == pytest.approx([0.66524, 0.24473], abs=1e-4)


def test_what_lies_in_the_border_is_none_and_the_rest_is_led_back() -> None:
    placed = np.array([100, 200, 10, 0, 20, 40], np.int32)
    boxes = np.array([[0, 0, 40, 9], [10, 5, 30, 20]], np.float32)
    found = chosen("boxes_scores", network_size=(40, 40))(boxes, np.full((2, 1), 0.9, np.float32), placed)
    assert len(found[0]) == 1
    assert found[0][0].tolist() == [50, 0, 150, 50]


@pytest.mark.parametrize("layout", ["candidates", "boxes_scores", "yolo"])
@pytest.mark.parametrize("where", ["box", "score"])
def test_what_is_no_number_is_refused(layout: str, where: str) -> None:
    box, score = np.array([[1, 2, 3, 4]], np.float32), np.array([[0.9]], np.float32)
    (box if where == "box" else score)[0, 0] = np.nan
    raw = {
        "candidates": (box, score[:, 0], np.array([1], np.int32)),
        "boxes_scores": (box, score),
        "yolo": (np.concatenate((box, score), 1).T,),
    }[layout]
    with pytest.raises(ValueError, match="NaN"):
        chosen(layout)(*raw, WHOLE)


FINDING = Path(__file__).parent / "networks" / "finding.py"
CANVAS = "{channels: 3, letterbox: 64, mean: [0.4, 0.4, 0.4], std: [0.2, 0.2, 0.2]}"


def entry(name: str = "m", **keys: str) -> str:
    """Of a manifest, with a small detector as ONNX; `keys` replace what it says, and an empty one leaves it out."""
    said = {
        "task": "detection",
        "network": "finding.py:Yolo",
        "weights": "random",
        "format": "onnx",
        "output": "{layout: yolo, box: cxcywh}",
        "labels": "[cup, spoon, plate]",
        "preprocess": CANVAS,
    } | keys
    return f"  {name}:\n" + "".join(f"    {key}: {value}\n" for key, value in said.items() if value)


def built(folder: Path, text: str) -> list[BuiltModel]:
    shutil.copy(FINDING, folder / FINDING.name)
    return build(folder, "models:\n" + text)


CORNERS = {
    "network": "finding.py:Corners",
    "arguments": "{classes: 5}",
    "labels": "[none, cup, spoon, fork, plate]",
    "output": "{layout: boxes_scores, normalized: true, background: 0, activation: softmax}",
    "preprocess": "{channels: 3, resize: [64, 64], mean: [0.4, 0.4, 0.4], std: [0.2, 0.2, 0.2]}",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, BuiltModel]]:
    folder = tmp_path_factory.mktemp("detection")
    models = built(folder, entry("yolo") + entry("corners", **CORNERS))
    return folder / "repository", {model.name: model for model in models}


def test_builds_find_what_the_networks_find(made: tuple[Path, dict[str, BuiltModel]]) -> None:
    for model in made[1].values():
        figures = model.verification.figures()
        assert figures["found_agreement"] == 1.0
        assert figures["box_error"] < 0.05


def picture(width: int, height: int, seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (max(1, height // 9), max(1, width // 9), 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def own(module: torch.nn.Module, layout: str, data: bytes) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Written out for these two networks, with Pillow and torchvision alone."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = min(64 / image.width, 64 / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale))) if layout == "yolo" else (64, 64)
    left, top = ((64 - size[0]) // 2, (64 - size[1]) // 2)
    canvas = Image.new("RGB", (64, 64), (114, 114, 114))
    canvas.paste(image.resize(size, Image.Resampling.BILINEAR), (left, top))
    pixels = (torch.tensor(np.asarray(canvas)).permute(2, 0, 1) / 255 - 0.4) / 0.2
    boxes, logits = (one[0] for one in module.parts(pixels[None]))
    corners = box_convert(boxes.T, "cxcywh", "xyxy")
    if layout == "yolo":
        scores, classes = logits.sigmoid().max(0)
    else:
        scores = logits.T.softmax(1)[:, 1:].flatten()
        corners, classes = corners.repeat_interleave(4, 0), torch.arange(1, 5).repeat(len(corners))
    corners[:, 0::2] = corners[:, 0::2].clamp(left, left + size[0])
    corners[:, 1::2] = corners[:, 1::2].clamp(top, top + size[1])
    solid = (scores > 0.25) & ((corners[:, 2:] - corners[:, :2]).amin(1) > 0)
    corners, scores, classes = corners[solid], scores[solid], classes[solid]
    kept = batched_nms(corners, scores, classes, 0.45)[:100]
    led = corners[kept] - torch.tensor([left, top] * 2)
    return led * torch.tensor([image.width / size[0], image.height / size[1]] * 2), scores[kept], classes[kept]


def module_of(name: str, **arguments: int) -> torch.nn.Module:
    spec = importlib.util.spec_from_file_location("finding", FINDING)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    found: torch.nn.Module = getattr(module, name)(**arguments).eval()
    return found


def test_a_server_tells_of_bytes_what_the_own_pipeline_tells(made: tuple[Path, dict[str, BuiltModel]]) -> None:
    """Pictures of different sizes in one batch, one of a single pixel among them."""
    pictures = [picture(*size, seed) for seed, size in enumerate([(300, 200), (90, 160), (1, 1), (64, 64)])]
    running = LAUNCHERS["embedded"].launch(made[0], ANY_PORTS)
    try:
        for name, network in (("yolo", module_of("Yolo")), ("corners", module_of("Corners", classes=5))):
            answers = asked(running.endpoints.grpc, name, pictures)
            found = 0
            for row, data in enumerate(pictures):
                with torch.inference_mode():
                    boxes, scores, classes = own(network, name, data)
                count = int(answers["COUNT"][row, 0])
                assert count == len(scores), (name, row)
                assert np.abs(answers["BOXES"][row, :count] - boxes.numpy()).max(initial=0) < 0.5
                assert np.abs(answers["SCORES"][row, :count] - scores.numpy()).max(initial=0) < 1e-4
                assert answers["CLASSES"][row, :count].tolist() == classes.tolist()
                found += count
            assert found > 10
    finally:
        running.stop()


def asked(address: str, model: str, pictures: list[bytes]) -> dict[str, np.ndarray]:
    with grpc.InferenceServerClient(address) as client:
        config = client.get_model_config(model, as_json=True)["config"]
        assert config["parameters"]["task"]["string_value"] == "detection"
        assert json.loads(config["parameters"]["labels"]["string_value"])[-1] == "plate"
        given = grpc.InferInput("IMAGE", [len(pictures), 1], "BYTES")
        given.set_data_from_numpy(np.array(pictures, object).reshape(-1, 1))
        answer = client.infer(model, [given], client_timeout=60)
        return {name: answer.as_numpy(name) for name in ("BOXES", "SCORES", "CLASSES", "COUNT")}


REFUSED = {
    "transposed": ({"network": "finding.py:Transposed"}, "transpose it in forward()"),
    "not a number": ({"network": "finding.py:NotANumber"}, "NaN"),
    "logits": ({"network": "finding.py:Logits"}, "activation: sigmoid"),
    "company": ({"network": "finding.py:in_company", "weights": "included"}, "other images of its batch"),
    "no layout": ({"output": ""}, "nothing tells what the network gives"),
    "another layout": ({"output": "{layout: boxes_scores}"}, "boxes_scores"),
    "inside out": ({"output": "{layout: yolo, box: xyxy}"}, "inside out"),
    "labels": ({"labels": "[a, b]"}, "2 labels for 3 classes"),
    "background": ({"output": "{layout: yolo, box: cxcywh, background: 7}"}, "there are 3 classes"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str, tmp_path: Path) -> None:
    keys, message = REFUSED[what]
    with pytest.raises(BuilderError, match=re.escape(message)):
        built(tmp_path, entry(**keys))


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Entry, Reference, Predict]:
    """An entry, its reference, and the network itself in place of an artifact."""
    folder = tmp_path_factory.mktemp("studied")
    shutil.copy(FINDING, folder / FINDING.name)
    (item,) = resolve(
        load_manifest(write_manifest(folder, "models:\n" + entry(network="finding.py:known", weights="included")))
    )
    module, reference = study(item, lambda _: None)

    def predict(tensors: Tensors) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            return {"OUTPUT__0": module(tensors["INPUT__0"])}

    return item, reference, predict


def changed(predict: Predict, change: Callable[[torch.Tensor], None]) -> Predict:
    def run(tensors: Tensors) -> dict[str, torch.Tensor]:
        (found,) = predict(tensors).values()
        found = found.clone()
        change(found)
        return {"OUTPUT__0": found}

    return run


def swap(found: torch.Tensor) -> None:
    found[:, [4, 5]] = found[:, [5, 4]].clone()


def shift(found: torch.Tensor) -> None:
    found[:, 0] += 0.4


def narrow(found: torch.Tensor) -> None:
    found[:, 2:4] *= 0.9


def raise_scores(found: torch.Tensor) -> None:
    found[:, 4:] = (found[:, 4:] + 2e-4).clamp(max=1)


def lower_threshold(found: torch.Tensor) -> None:
    scores = found[:, 4:]
    found[:, 4:] = torch.where((scores > 0.2) & (scores < 0.25), 0.26, scores)


def lose(found: torch.Tensor) -> None:
    found[:, 4:] *= found[:, 4:] > 0.5


def not_a_number(found: torch.Tensor) -> None:
    found[:, 5, 3] = torch.nan


def ignore(found: torch.Tensor) -> None:
    found[:] = found[:1]


WRONG = {swap: "of the detections agree", shift: "pixels", narrow: "of the detections agree",
    raise_scores: "scores differ",
         lower_threshold: "of the detections agree", lose: "of the detections agree", not_a_number: "NaN",
         ignore: "of the detections agree"}  # fmt: skip


def test_the_network_itself_is_held(studied: tuple[Entry, Reference, Predict]) -> None:
    item, reference, predict = studied
    found = item.task.verify(item, reference, predict)
    item.task.hold(item, reference, found, "it")
    assert found.figures()["undecided"] < 0.05


@pytest.mark.parametrize("change", WRONG, ids=lambda change: change.__name__)
def test_wrong_artifacts_are_refused(
    change: Callable[[torch.Tensor], None], studied: tuple[Entry, Reference, Predict]
) -> None:
    item, reference, predict = studied
    with pytest.raises(VerificationError, match=WRONG[change]):
        item.task.hold(item, reference, item.task.verify(item, reference, changed(predict, change)), "it")


def found_of(*rows: tuple[float, ...]) -> Found:
    """Of rows of x1, y1, x2, y2, score, class."""
    whole = torch.tensor(rows).reshape(-1, 6)
    return Found(whole[:, :4], whole[:, 4], whole[:, 5].int())


A, B = (0, 0, 10, 10, 0.8, 1), (20, 20, 30, 30, 0.6, 1)
RULES = Rules(match_iou=0.95, box_error=0.5, score_tie=1e-3, threshold=0.3, iou_threshold=0.5, most=3)
COMPARED = {
    "equal": (found_of(A, B), found_of(A, B), (2, 0, 0, 0)),
    "missing": (found_of(A, B), found_of(A), (1, 1, 0, 0)),
    "added": (found_of(A), found_of(A, B), (1, 0, 1, 0)),
    "another class": (found_of(A), found_of((*A[:5], 2)), (0, 1, 1, 0)),
    "at the threshold": (found_of(A, (*B[:4], 0.3005, 1)), found_of(A), (1, 0, 0, 1)),
    "rivals of another score": (found_of(A, B), found_of(A, (20, 20, 30, 33, 0.62, 1)), (1, 1, 1, 0)),
    "beyond the last": (
        found_of(A, B, (40, 40, 50, 50, 0.5, 1)), found_of(A, B, (60, 60, 70, 70, 0.5005, 1)), (2, 0, 0, 2),
    ),
    "nothing": (found_of(), found_of(), (0, 0, 0, 0)),
}  # fmt: skip


@pytest.mark.parametrize("what", COMPARED)
def test_findings_compare(what: str) -> None:
    expected, found, figures = COMPARED[what]
    told = match(expected, found, RULES, lambda: found)
    assert (told.pairs, told.missing, told.added, told.undecided) == figures


def test_boxes_of_one_place_are_told_apart_by_their_scores() -> None:
    other = (*A[:4], 0.8005, 1)
    expected, found = found_of(A, other), found_of(other, A)
    assert match(expected, found, RULES, lambda: found).score_error == 0


def annotated(folder: Path, **changes: object) -> str:
    """Pictures, and a COCO file of what the small network finds in them."""
    images = folder / "images"
    images.mkdir()
    rows: list[dict[str, object]] = []
    for number in range(8):
        data = picture(120, 80, number)
        (images / f"{number}.png").write_bytes(data)
        with torch.inference_mode():
            boxes, _, classes = own(module_of("Yolo"), "yolo", data)
        for (x1, y1, x2, y2), category in zip(boxes.tolist(), classes.tolist(), strict=True):
            rows.append({"id": len(rows) + 1, "image_id": number, "category_id": category + 5,
                         "bbox": [x1, y1, x2 - x1, y2 - y1]})  # fmt: skip
    document: dict[str, object] = {
        "images": [{"id": number, "file_name": f"{number}.png", "width": 120, "height": 80} for number in range(8)],
        "categories": [{"id": i + 5, "name": name} for i, name in enumerate(("cup", "spoon", "plate"))],
        "annotations": rows,
    }
    (folder / "coco.json").write_text(json.dumps(document | changes), encoding="utf-8")
    return "{data: images, annotations: coco.json}"


@pytest.mark.parametrize("folder", ["", "images/"])
def test_annotations_measure_both(folder: str, tmp_path: Path) -> None:
    """Tools write the pictures' names with the folder's, or without."""
    named = [{"id": n, "file_name": f"{folder}{n}.png", "width": 120, "height": 80} for n in range(8)]
    (model,) = built(tmp_path, entry(images=annotated(tmp_path, images=named)))
    figures = model.verification.figures()
    assert figures["network_map"] > 0.99
    assert abs(figures["artifact_map"] - figures["network_map"]) < 0.001


BAD_ANNOTATIONS = {
    "missing file": (
        {"images": [{"id": 0, "file_name": "0.png", "width": 120, "height": 80}]},
        "says nothing of 1.png",
    ),
    "outside": (
        {"annotations": [{"id": 7, "image_id": 0, "category_id": 5, "bbox": [100, 10, 30, 5]}]},
        "is not within",
    ),
    "category": ({"categories": [{"id": 5, "name": "fork"}]}, "are no labels: fork"),
    "unnamed": ({"annotations": [{"id": 7, "image_id": 0, "category_id": 99, "bbox": [1, 1, 3, 5]}]}, "99"),
    "no COCO": ({"images": 3}, "is no COCO annotation"),
}


@pytest.mark.parametrize("what", BAD_ANNOTATIONS)
def test_annotations_that_do_not_fit(what: str, tmp_path: Path) -> None:
    changes, message = BAD_ANNOTATIONS[what]
    with pytest.raises(ManifestError, match=message):
        built(tmp_path, entry(images=annotated(tmp_path, **changes)))


def test_a_file_of_the_users_is_served_as_it_is(made: tuple[Path, dict[str, BuiltModel]], tmp_path: Path) -> None:
    source = next((made[0] / "corners_onnx").rglob("model.onnx"))
    shutil.copy(source, tmp_path / "found.onnx")
    keys = {key: value for key, value in CORNERS.items() if key != "arguments"}
    (model,) = built(tmp_path, entry(**keys | {"network": "", "weights": "", "format": "", "artifact": "found.onnx"}))
    assert model.verification.figures()["found_agreement"] == 1.0


KNOWN = {"network": "finding.py:known", "weights": "included"}
MISFITS = {
    "shares said of pixels": (KNOWN | {"output": "{layout: yolo, normalized: true}"}, "which are pixels: leave it out"),
    "pixels said of shares": (
        CORNERS | {"network": "finding.py:known_corners", "weights": "included", "arguments": ""}
        | {"output": "{layout: boxes_scores, background: 0, activation: softmax}"},
        "say `normalized: true`",
    ),
    "activated twice": (KNOWN | {"output": "{layout: yolo, activation: sigmoid}"}, "which are probabilities already"),
    "another layout": (KNOWN | {"output": "{layout: boxes_scores}"}, r"this gives \[1, 7, 64\]"),
    "cut off": (
        KNOWN | {"preprocess": "{channels: 3, resize: 64, crop: 64, mean: [0, 0, 0], std: [1, 1, 1]}"},
        "in what a crop cuts off nothing would be found",
    ),
    "a classifier": ({"network": "resnet18", "output": ""}, "resnet18 is a network for classification; write `task: "),
    "a detector": (
        {"network": "ssd300_vgg16", "output": "", "task": "segmentation"},
        "ssd300_vgg16 is a network for detection; write `task: detection`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", MISFITS)
def test_what_is_said_of_a_network_fits_it(what: str, tmp_path: Path) -> None:
    keys, message = MISFITS[what]
    with pytest.raises(ManifestError, match=message):
        built(tmp_path, entry(**keys))


def test_golden_examples_stand(made: tuple[Path, dict[str, BuiltModel]]) -> None:
    """What is recorded does not hang on the last digits of a score."""
    recorded = {name: golden.read(made[0] / name / str(model.version)) for name, model in made[1].items()}
    for goldens in recorded.values():
        assert goldens
        for sample in goldens.samples:
            assert [tensor.name for tensor in sample.outputs] == ["BOXES", "SCORES", "CLASSES", "COUNT"]


@pytest.mark.parametrize(("is_crowd", "expected"), [(True, 1.0), (False, 0.2525)])
def test_what_is_found_in_a_crowd_is_neither_right_nor_wrong(is_crowd: bool, expected: float) -> None:
    truths = Annotations({0: [Truth([0, 0, 10, 10], 1, False), Truth([50, 50, 100, 100], 1, is_crowd)]})
    boxes = torch.tensor([[60.0, 60, 80, 80], [0, 0, 10, 10]])
    found = Found(boxes, torch.tensor([0.9, 0.8]), torch.tensor([1, 1]))
    assert mean_average_precision(truths, {0: found}) == pytest.approx(expected, abs=0.001)
