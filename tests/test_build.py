import shutil
from pathlib import Path

import pytest
import torch
from conftest import build
from PIL import Image

from builder import config
from builder.build import build_repository, plan
from builder.errors import BuilderError, ExportError, ManifestError, VerificationError, WeightsError
from builder.exporters import EXPORTERS
from builder.manifest import load_manifest
from builder.networks import NETWORKS
from builder.networks.classifier import as_classifier
from builder.types import NetworkRequest, WeightsSource
from builder.verify import batch_sizes, compare, evaluation_tensors, image_files, outputs, require

RECIPE = "preprocess: {channels: 3, resize: 40, crop: 32}"
SMALL_TORCHVISION = ["squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v3_small", "resnet18", "googlenet"]


def entry(network: str, **keys: object) -> str:
    lines = [f"    {key}: {value}" for key, value in ({"network": network, "weights": "random"} | keys).items()]
    return "models:\n  model:\n" + "\n".join(lines) + f"\n    {RECIPE}\n"


@pytest.mark.parametrize("format_name", EXPORTERS)
def test_published_model_computes_what_the_network_computes(format_name: str, tmp_path: Path) -> None:
    """Held to a module made anew, not to what the build itself compared."""
    (built,) = build(tmp_path, f"models:\n  lenet: {{weights: random, seed: 4, format: {format_name}}}\n")
    network = NETWORKS["lenet"].make(NetworkRequest("lenet", WeightsSource("random", "random", seed=4)))
    assert network.recipe
    images = evaluation_tensors(image_files(None), network.recipe, 5)
    exporter = EXPORTERS[format_name]
    artifact = tmp_path / "repository" / built.network_model / "1" / exporter.FILENAME
    probabilities = exporter.load(artifact, 1)(images)
    expected = as_classifier(network.module, "softmax")(images)
    assert (probabilities - expected).abs().max() <= 1e-5
    assert torch.allclose(probabilities.sum(1), torch.ones(5))
    assert built.check.batch_sizes == (1, 2, 8)
    assert not built.trained


@pytest.mark.parametrize("format_name", EXPORTERS)
@pytest.mark.parametrize("name", SMALL_TORCHVISION)
def test_torchvision_networks_build(name: str, format_name: str, tmp_path: Path) -> None:
    (built,) = build(tmp_path, f"models:\n  {name}: {{weights: random, format: {format_name}, max_batch_size: 4}}\n")
    assert built.check.top1_agreement == 1
    assert built.classes == 1000


@pytest.mark.slow
@pytest.mark.parametrize("format_name", EXPORTERS)
@pytest.mark.parametrize("name", NETWORKS["torchvision"].names())
def test_every_torchvision_network_builds(name: str, format_name: str, tmp_path: Path) -> None:
    build(tmp_path, f"models:\n  {name}: {{weights: random, format: {format_name}, max_batch_size: 3}}\n")
    shutil.rmtree(tmp_path / "repository")  # together they would fill a disk


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (entry("small.py:Branching"), ExportError, "a Python value of the image's content"),
        (entry("small.py:MarksAreHidden"), ExportError, "small.py:"),
        (entry("small.py:MarksAreHidden", format="onnx"), ExportError, "data-dependent"),
        (entry("small.py:FixedBatch"), VerificationError, "batch sizes"),
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
    assert list((tmp_path / "repository").iterdir()) == []


def test_branches_on_shape_are_no_branches_on_content(tmp_path: Path) -> None:
    (built,) = build(tmp_path, entry("small.py:BranchesOnShape"))
    assert built.check.top1_agreement == 1


def test_one_failure_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("models:\n  bad: {network: lenet, weights: none.pth}\n  good: {network: lenet, weights: random}\n")
    outcome = build_repository(plan(load_manifest(path)), tmp_path / "repository")
    assert [failure.name for failure in outcome.failed] == ["bad"]
    assert [model.name for model in outcome.built] == ["good"]
    assert (tmp_path / "repository" / "good").exists()


def test_configs_are_complete(tmp_path: Path) -> None:
    build(tmp_path, entry("small.py:small", labels="[a, b, c]", max_batch_size=4, instances=2, threads=1))
    ensemble, network, preprocess = (
        config.read(next((tmp_path / "repository").glob(name)) / "config.pbtxt")
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
    network = config.read(tmp_path / "repository" / "model_torchscript" / "config.pbtxt")
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


class TestVerification:
    """The comparison itself, on figures made by hand."""

    images = torch.rand(4, 2, generator=torch.Generator().manual_seed(0))
    sizes = batch_sizes(4)

    def check(self, error: float = 0.0, ignore_input: bool = False) -> None:
        def network(batch: torch.Tensor) -> torch.Tensor:
            return torch.softmax(batch * 1e-2, 1)  # nearly the same for every image, as if untrained

        def artifact(batch: torch.Tensor) -> torch.Tensor:
            rows = network(self.images[:1].expand_as(batch) if ignore_input else batch)
            return rows + torch.tensor([error, -error])

        require(compare(*(outputs(f, self.images, self.sizes) for f in (network, artifact)), self.sizes), "model")

    def test_equal_passes(self) -> None:
        self.check()

    def test_an_error_above_the_limit_fails(self) -> None:
        with pytest.raises(VerificationError, match=r"differ by up to 2\.\d+e-05 \(limit 1e-05\)"):
            self.check(error=2e-5)

    def test_ignoring_the_input_fails_though_the_probabilities_hardly_differ(self) -> None:
        with pytest.raises(VerificationError, match="of what the images change"):
            self.check(ignore_input=True)

    def test_nan_fails(self) -> None:
        with pytest.raises(VerificationError):
            self.check(error=float("nan"))

    def test_batch_sizes(self) -> None:
        assert [batch_sizes(n) for n in (1, 2, 8)] == [(1,), (1, 2), (1, 2, 8)]
