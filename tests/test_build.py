import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import RECIPE as SHARED_RECIPE
from conftest import VARIANTS, build, model_of, write_manifest
from PIL import Image
from predicting import probabilities_of

from builder import networks
from builder.build.run import build_repository, resolve
from builder.commands.build import build as build_command
from builder.data.images import SAMPLES, evaluation, find
from builder.errors import BuilderError, ExportError, ManifestError, VerificationError, WeightsError
from builder.exporters import EXPORTERS
from builder.machine.hardware import instruction_sets
from builder.manifest.models import load_manifest
from builder.networks import NETWORKS
from builder.repository.served import retired
from builder.tasks.classification.study import as_classifier
from builder.triton import model_config
from builder.types import BuiltModel, NetworkRequest, Target, WeightsSource

RANDOM = WeightsSource("random", "random")
RECIPE = "preprocess: {channels: 3, resize: 40, crop: 32}"
# Each family once and each format once; the other pairs are among the slow tests.
PAIRED = {
    "squeezenet1_1": "torchscript",
    "shufflenet_v2_x0_5": "openvino",
    "mobilenet_v3_small": "onnx",
    "resnet18": "openvino",
    "googlenet": "torchscript",
}


def paired(name: str, format_name: str) -> Any:
    return pytest.param(name, format_name, marks=() if PAIRED[name] == format_name else pytest.mark.slow)


def entry(network: str, **keys: object) -> str:
    lines = [f"    {key}: {value}" for key, value in ({"network": network, "weights": "random"} | keys).items()]
    return "models:\n  model:\n" + "\n".join(lines) + f"\n    {RECIPE}\n"


def test_every_format_for_cpus_is_among_what_is_tested() -> None:
    assert {"torchscript", "onnx", "openvino", "aoti"} == {name for name, precision in VARIANTS if precision == "fp32"}
    assert {"torchscript", "onnx", "openvino"} == {name for name, precision in VARIANTS if precision == "int8"}


# int8 differs by the instructions that a CPU has: 2.2e-2 was seen. An answer of 1/3 to everything is 4e-2 away.
ERRORS = {"fp32": 1e-5, "fp16": 1e-3, "bf16": 1e-2, "int8": 3e-2}


@pytest.mark.parametrize(("format_name", "precision"), VARIANTS)
def test_published_model_computes_what_the_network_computes(
    format_name: str, precision: str, repository: Path, shared_builds: dict[str, BuiltModel]
) -> None:
    """Held to a module made anew, not to what the build itself compared. The builds are those that others serve."""
    made = networks.find("small.py:small").make(NetworkRequest("small.py:small", RANDOM, base=repository.parent))
    images = next(evaluation(find(None, repository.parent), SHARED_RECIPE, 5).batches(5))
    exporter = EXPORTERS[format_name]
    built = shared_builds[model_of(format_name, precision)]
    artifact = repository / built.network_model / "1" / exporter.FILENAME
    with torch.inference_mode():
        expected = as_classifier(made.module, "softmax")(images)
    probabilities = probabilities_of(format_name, artifact, Target(precision), images)
    assert (probabilities - expected).abs().max() <= ERRORS[precision]
    assert torch.allclose(probabilities.sum(1), torch.ones(5), atol=ERRORS[precision])
    assert built.verification.batch_sizes == (1, 2, 3, 8)
    assert not built.trained
    assert {file.name for file in artifact.parent.iterdir()} <= {
        exporter.FILENAME,
        "config.pbtxt",
        "labels.txt",
        "model.bin",
    }  # and nothing that a compiler left behind


# Compiling takes AOTInductor half a minute a network, so that all but one of them are among the slow tests.
@pytest.mark.parametrize(
    ("name", "format_name"),
    [paired(name, format_name) for name in PAIRED for format_name in ("torchscript", "onnx", "openvino")],
)
def test_torchvision_networks_build(name: str, format_name: str, tmp_path: Path) -> None:
    """A family's layers fail in a format, or a format's writer in whatever network: pairs show either."""
    (built,) = build(tmp_path, f"models:\n  {name}: {{weights: random, format: {format_name}, max_batch_size: 4}}\n")
    assert built.verification.top1_agreement == 1
    assert built.classes == 1000


@pytest.mark.slow
@pytest.mark.parametrize("format_name", [name for name, precision in VARIANTS if precision == "fp32"])
@pytest.mark.parametrize("name", NETWORKS["torchvision"].names())
def test_every_torchvision_network_builds(name: str, format_name: str, tmp_path: Path) -> None:
    build(tmp_path, f"models:\n  {name}: {{weights: random, format: {format_name}, max_batch_size: 3}}\n")
    shutil.rmtree(tmp_path / "repository")  # together they would fill a disk


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (entry("small.py:Branching"), VerificationError, "a branch on what is in the batch"),
        (entry("small.py:MarksAreHidden"), ExportError, "small.py:"),
        (entry("small.py:MarksAreHidden", format="onnx"), ExportError, "data-dependent"),
        (entry("small.py:MarksAreHidden", format="openvino"), ExportError, "a Python value of its input's content"),
        (entry("small.py:MarksAreHidden", format="aoti"), ExportError, "data-dependent"),
        (entry("small.py:MarksAreHidden", precision="int8", calibration=SAMPLES), ExportError, "`format: openvino`"),
        (entry("small.py:small", precision="int8", calibration="nowhere"), ManifestError, "model.calibration: "),
        (entry("small.py:small", images="small.py:nothing"), ManifestError, "no callable 'nothing'"),
        (entry("small.py:small", images="small.py:tensors"), ManifestError, "give files or Pillow images"),
        (entry("small.py:small", images="small.py:failing_photos"), ManifestError, "OSError: no such photo (/"),
        (entry("small.py:small", format="tensorrt", device="gpu"), ExportError, "missing: "),
        (entry("small.py:FixedBatch"), VerificationError, "It was converted with a batch of 2"),
        (entry("small.py:Loop"), VerificationError, "fails on a batch of 1 image"),
        (entry("small.py:Loop", format="openvino"), VerificationError, "for a batch of 1 image, and its config would"),
        (entry("small.py:Dropped"), VerificationError, "F.dropout training=self.training"),
        (entry("small.py:small", arguments="{num_classes: 1}"), VerificationError, "the softmax of one number"),
        (entry("small.py:foreign_operator"), ExportError, "it calls build_repo_tests::doubled, of a library"),
        (entry("small.py:NotANumber"), VerificationError, "NaN"),
        (entry("small.py:Shapeless"), ExportError, "gives scores [B, classes]; this gives [1, 4, 30, 30]"),
        (entry("small.py:small", activation="none"), VerificationError, "must give probabilities itself"),
        (entry("small.py:small", labels="[a, b]"), ManifestError, "2 labels for 3 classes"),
        (entry("small.py:small", labels="none.txt"), ManifestError, "cannot be read"),
        (entry("small.py:small", labels='[a, b, ""]'), ManifestError, "not empty"),
        (entry("small.py:small", images="nowhere"), ManifestError, "is not a folder"),
        (
            "models:\n  alexnet: {weights: random, preprocess: {resize: 40, crop: 32}}\n",
            ExportError,
            "fails on 3x32x32 images",
        ),
        (entry("small.py:small", weights="none.pth"), WeightsError, "does not exist"),
        ("models:\n  model: {network: 'small.py:small', weights: random}\n", ManifestError, "preprocess: is needed"),
    ],
    ids=lambda value: "" if isinstance(value, type) else str(value)[:40].replace("\n", " "),
)
def test_refused_build_publishes_nothing(text: str, error: type[BuilderError], message: str, tmp_path: Path) -> None:
    with pytest.raises(error) as caught:
        build(tmp_path, text)
    assert message in str(caught.value)
    assert not list((tmp_path / "repository").glob("*"))


def test_branches_on_shape_are_no_branches_on_content(tmp_path: Path) -> None:
    (built,) = build(tmp_path, entry("small.py:BranchesOnShape"))
    assert built.verification.top1_agreement == 1


def test_one_failure_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("models:\n  bad: {network: lenet, weights: none.pth}\n  good: {network: lenet, weights: random}\n")
    outcome = build_repository(resolve(load_manifest(path)), tmp_path / "repository")
    assert [failure.name for failure in outcome.failed] == ["bad"]
    assert [model.name for model in outcome.built] == ["good"]
    assert (tmp_path / "repository" / "good").exists()


def test_configs_are_complete(tmp_path: Path) -> None:
    build(tmp_path, entry("small.py:small", labels="[a, b, c]", max_batch_size=4, instances=2, threads=1))
    ensemble, network, preprocess = (
        model_config.read(next((tmp_path / "repository").glob(name)) / "config.pbtxt")
        for name in ("model", "model_torchscript", "preprocess_*")
    )
    assert [(t.name, t.data_type, list(t.dims)) for t in ensemble.input] == [("IMAGE", 13, [1])]
    assert [t.name for t in ensemble.output] == ["PROBABILITIES"]
    assert [s.model_name for s in ensemble.ensemble_scheduling.step] == [preprocess.name, network.name]
    assert (network.backend, network.max_batch_size) == ("pytorch", 4)
    assert network.input[0].format == network.input[0].FORMAT_NCHW
    assert list(network.version_policy.specific.versions) == [1]
    assert [(g.kind, g.count) for g in network.instance_group] == [(2, 2)]
    assert network.parameters["INTRA_OP_THREAD_COUNT"].string_value == "1"
    assert network.dynamic_batching.default_queue_policy.max_queue_size > 0
    assert [w.batch_size for w in network.model_warmup] == [1, 4]
    assert preprocess.max_batch_size >= network.max_batch_size
    facts = {key: value.string_value for key, value in ensemble.parameters.items()}
    assert facts["trained"] == "false"
    assert facts["weights"] == "random, seed 0"
    assert facts["torch_version"].startswith("2.")
    for model in (ensemble, network):
        labels = tmp_path / "repository" / model.name / model.output[0].label_filename
        assert labels.read_text() == "a\nb\nc\n"


def test_gpu_models_are_configured_for_gpus(tmp_path: Path) -> None:
    build(tmp_path, entry("small.py:small", device="gpu"))
    network = model_config.read(tmp_path / "repository" / "model_torchscript" / "config.pbtxt")
    assert [(g.kind, g.count) for g in network.instance_group] == [(1, 1)]


def test_one_preprocess_step_for_one_recipe(tmp_path: Path) -> None:
    entries = "".join(f"  m{i}: {{network: lenet, weights: random, seed: {i}}}\n" for i in range(2))
    other = "  m2: {network: lenet, weights: random, preprocess: {mean: [0.5]}}\n"
    models = build(tmp_path, "models:\n" + entries + other)
    assert models[0].preprocess_model == models[1].preprocess_model != models[2].preprocess_model


def test_users_images_are_verified_with(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (50, 60), "red").save(tmp_path / "photos" / "red.png")
    build(tmp_path, entry("small.py:small", images="photos"))
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"not a picture")
    with pytest.raises(ManifestError, match=r"broken\.jpg cannot be decoded"):
        build(tmp_path, entry("small.py:small", images="photos"))


def test_recipe_that_refuses_its_own_images_is_refused(tmp_path: Path) -> None:
    text = "models:\n  lenet: {weights: random, preprocess: {max_pixels: 10}}\n"
    with pytest.raises(ManifestError, match="the recipe refuses"):
        build(tmp_path, text)


def test_quantising_one_model_leaves_the_others_alone(tmp_path: Path) -> None:
    """PyTorch's quantised engine is a setting of the whole process."""
    before = torch.backends.quantized.engine
    build(tmp_path, entry("small.py:small", precision="int8", calibration=SAMPLES))
    assert torch.backends.quantized.engine == before


def test_a_missed_tolerance_publishes_nothing_and_shows_the_worst_images(tmp_path: Path) -> None:
    text = entry("small.py:small", precision="int8", calibration=SAMPLES, labels="[cat, dog, cow]")
    with pytest.raises(VerificationError) as caught:
        build(tmp_path, text + "    tolerance: {max_abs_error: 1.0e-9}\n")
    message = str(caught.value)
    assert "(limit 1e-09)" in message
    assert message.count("network ") >= 3
    assert any(f"{photo.name}: network" in message for photo in SAMPLES.glob("*.jpg"))
    assert "cat" in message or "dog" in message or "cow" in message
    assert list((tmp_path / "repository").iterdir()) == []
    build(tmp_path, text)


def test_labelled_images_give_accuracy(tmp_path: Path) -> None:
    for number, photo in enumerate(sorted(SAMPLES.glob("*.jpg"))):
        folder = tmp_path / "photos" / ("cat" if number else "1")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder)
    (built,) = build(tmp_path, entry("small.py:small", labels="[cat, dog, cow]", images="photos"))
    assert built.verification.network_accuracy == built.verification.artifact_accuracy
    assert built.verification.network_accuracy in (0, 0.25, 0.5, 0.75, 1)
    facts = model_config.read(tmp_path / "repository" / "model" / "config.pbtxt").parameters
    assert float(facts["artifact_accuracy"].string_value) == built.verification.artifact_accuracy
    (tmp_path / "photos" / "cow, perhaps").mkdir()
    shutil.copy(SAMPLES / "coffee.jpg", tmp_path / "photos" / "cow, perhaps")
    with pytest.raises(ManifestError, match=r"models\.model\.images: .*no classes: cow, perhaps"):
        build(tmp_path, entry("small.py:small", labels="[cat, dog, cow]", images="photos"))


def test_build_tells_the_accuracy_and_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels in another order than the classes: the artifact agrees with the network, and nothing is right."""
    for number, colour in enumerate(("red", "green", "blue")):
        (tmp_path / "images" / colour).mkdir(parents=True)
        for shade in range(5):
            pixels = tuple(200 + shade if channel == number else 20 for channel in range(3))
            Image.new("RGB", (40, 40), pixels).save(tmp_path / "images" / colour / f"{shade}.png")
    write_manifest(
        tmp_path,
        "models:\n"
        + "".join(
            f"  {name}: {{network: 'small.py:Colours', weights: included, labels: {labels}, images: images,"
            f" {RECIPE}}}\n"
            for name, labels in {
                "wrong": "[green, blue, red]",
                "right": "[red, green, blue]",
                "none": "[R, G, B]",
            }.items()
        ),
    )
    monkeypatch.chdir(tmp_path)
    build_command(as_json=False)
    printed = capsys.readouterr()
    rows = {line.split()[0]: line.split()[-1] for line in printed.out.splitlines()}
    assert rows == {"MODEL": "ACCURACY", "wrong": "0.00%", "right": "100.00%", "none": "-"}
    (order,) = [line for line in printed.err.splitlines() if "WARNING: wrong" in line]
    assert "right on 0 of 15 labelled images, fewer than guessing would get; 'green' is taken for 'blue'" in order
    (folders,) = [line for line in printed.err.splitlines() if "WARNING: none" in line]
    assert "match no label: blue, green, red" in folders
    assert "WARNING: right" not in printed.err


def test_what_scores_are_computed_in_is_not_what_is_served(tmp_path: Path) -> None:
    (built,) = build(tmp_path, entry("small.py:InHalf"))
    artifact = tmp_path / "repository" / built.network_model / "1" / "model.pt"
    found = probabilities_of("torchscript", artifact, Target(), torch.rand(2, 3, 32, 32))
    assert found.dtype == torch.float32


def test_ambiguous_labels_need_numbers(tmp_path: Path) -> None:
    (tmp_path / "photos" / "crane").mkdir(parents=True)
    shutil.copy(SAMPLES / "coffee.jpg", tmp_path / "photos" / "crane")
    with pytest.raises(ManifestError, match="classes 0 and 2 are both called so"):
        build(tmp_path, entry("small.py:small", labels="[crane, cat, crane]", images="photos"))


def test_datasets_of_ones_own(tmp_path: Path) -> None:
    text = entry("small.py:small", images="small.py:photos", precision="int8", calibration="small.py:photos")
    (built,) = build(tmp_path, text)
    assert built.verification.samples == 10
    assert built.verification.network_accuracy is not None


def test_formats_and_precisions_are_models_of_their_own(tmp_path: Path) -> None:
    """One config.pbtxt tells all versions of a model how to compute."""
    keys = {"format": "openvino", "calibration": SAMPLES, "tolerance": "{noise: 3, top1_agreement: 0}"}
    build(tmp_path, entry("small.py:small", **keys))
    (built,) = build(tmp_path, entry("small.py:small", precision="int8", **keys))
    assert (built.version, built.network_model) == (2, "model_openvino_int8")
    network = model_config.read(tmp_path / "repository" / built.network_model / "config.pbtxt")
    assert network.parameters["INFERENCE_PRECISION_HINT"].string_value == "f32"
    assert network.parameters["ENABLE_BATCH_PADDING"].string_value == "YES"
    assert network.parameters["nncf_version"].string_value
    assert retired(tmp_path / "repository") == {"model_openvino"}


def test_compiled_packages_say_what_they_are_bound_to(repository: Path, shared_builds: dict[str, BuiltModel]) -> None:
    built = shared_builds[model_of("aoti", "fp32")]
    network = model_config.read(repository / built.network_model / "config.pbtxt")
    assert (network.backend, network.platform) == ("pytorch", "torch_aoti")
    assert set(network.parameters["instruction_sets"].string_value.split()) == instruction_sets()


@pytest.mark.slow
def test_compiled_packages_may_take_one_at_a_time(tmp_path: Path) -> None:
    (built,) = build(tmp_path, entry("small.py:small", format="aoti", max_batch_size=1))
    assert built.verification.batch_sizes == (1,)
