import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model_builder, get_model_weights, list_models
from torchvision.models.feature_extraction import NodePathTracer

from builder import networks
from builder.errors import NetworkError, WeightsError
from builder.networks import NETWORKS, weights
from builder.networks import torchvision as family
from builder.networks.alexnet_gray import alexnet_gray
from builder.types import Network, NetworkRequest, WeightsSource

SMALL = Path(__file__).parent / "networks"
RANDOM = WeightsSource("random", "random")
TORCHVISION = list_models(module=torchvision.models)


def make(name: str, source: WeightsSource = RANDOM, base: Path = SMALL, **arguments: Any) -> Network:
    return networks.find(name).make(NetworkRequest(name, source, arguments, base))


def from_file(path: Path) -> WeightsSource:
    return WeightsSource("file", str(path), path)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_every_torchvision_classifier_is_there() -> None:
    assert set(NETWORKS["torchvision"].names()) == set(TORCHVISION)
    assert {"alexnet", "vgg11", "vgg16", "vgg19", "googlenet", "inception_v3", "resnet50"} <= set(TORCHVISION)


def served_module(name: str, entry: Any) -> nn.Module:
    """As the family makes it for an entry's weights, without any."""
    arguments = family.entry_arguments(name, entry)
    if name in family.AUXILIARY_PREFIXES:
        arguments |= {"aux_logits": False, "init_weights": False}
    with torch.device("meta"):
        return get_model_builder(name)(weights=None, **arguments).eval()


@pytest.mark.parametrize("name", [name for name in TORCHVISION if not name.startswith("regnet")])
def test_weights_fit_the_module_that_is_made_for_them(name: str) -> None:
    for entry in get_model_weights(name):
        expected = 23_834_568 if name == "inception_v3" else entry.meta["num_params"]
        assert parameters(served_module(name, entry)) == expected


class Layers(NodePathTracer):
    def depth(self, module: nn.Module) -> int:
        depth: dict[Any, int] = {}
        for node in self.trace(module).nodes:
            own = 0
            if node.op == "call_module":
                called = module.get_submodule(node.target)
                own = isinstance(called, nn.modules.conv._ConvNd | nn.Linear) + 2 * isinstance(
                    called, nn.MultiheadAttention
                )
            elif node.op == "call_function" and "shifted_window_attention" in getattr(node.target, "__name__", ""):
                own = 2
            elif node.op == "call_function" and getattr(node.target, "__name__", "") in ("linear", "conv2d"):
                own = 1
            depth[node] = own + max((depth[before] for before in node.all_input_nodes), default=0)
        return max(depth.values())


# The regnets cannot be made on the meta device; two of the small ones stand for them.
@pytest.mark.parametrize(
    "name", [n for n in TORCHVISION if not n.startswith("regnet") or n in ("regnet_x_400mf", "regnet_y_400mf")]
)
def test_layers_in_the_table_are_those_of_the_network(name: str) -> None:
    if name.startswith("regnet"):
        module = get_model_builder(name)(weights=None).eval()
    else:
        module = served_module(name, get_model_weights(name).DEFAULT)
    assert Layers(leaf_modules=[nn.MultiheadAttention]).depth(module) == networks.find(name).facts(name).layers


@pytest.mark.parametrize("name", networks.all_names())
def test_facts_are_complete(name: str) -> None:
    facts = networks.find(name).facts(name)
    assert facts.name == name
    assert 1998 <= facts.year <= 2026
    assert facts.parameters > 0
    assert facts.layers or facts.task == "detection"  # of which nobody counts them


def test_published_figures() -> None:
    vgg = networks.find("vgg16").facts("vgg16")
    assert (vgg.family, vgg.year, vgg.layers, vgg.parameters) == ("vgg", 2014, 16, 138_357_544)
    assert (vgg.top1, vgg.top5) == (71.592, 90.382)


def test_alexnet_gray_is_the_articles() -> None:
    module = alexnet_gray()
    assert parameters(module) == 46_764_746
    assert parameters(module) == NETWORKS["alexnet_gray"].facts("alexnet_gray").parameters
    shapes = []
    x = torch.zeros(1, 1, 224, 224)
    for layer in module.conv:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert [shapes[i] for i in (0, 2, 3, 5, 12)] == [
        (96, 54, 54),
        (96, 26, 26),
        (256, 26, 26),
        (256, 12, 12),
        (256, 5, 5),
    ]
    keys = [f"conv.{i}.{kind}" for i in (0, 3, 6, 8, 10) for kind in ("weight", "bias")]
    keys += [f"fc.{i}.{kind}" for i in (0, 3, 6) for kind in ("weight", "bias")]
    assert list(module.state_dict()) == keys


def test_lenet_parameters_are_those_of_its_facts() -> None:
    assert parameters(make("lenet").module) == NETWORKS["lenet"].facts("lenet").parameters


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_left_out(name: str, tmp_path: Path) -> None:
    """A checkpoint of a whole training run holds them; serving does not."""
    trained = get_model_builder(name)(weights=None, aux_logits=True, init_weights=False)
    path = tmp_path / "trained.pth"
    torch.save(trained.state_dict(), path)
    module = make(name, from_file(path)).module
    assert not [key for key in module.state_dict() if key.lower().startswith("aux")]
    image = torch.rand(1, 3, 299, 299)
    assert torch.equal(module(image), trained.eval()(image))


def test_random_weights_follow_the_seed_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, again, other = (
        make("lenet", WeightsSource("random", "random", seed=seed)).module.state_dict()["0.weight"]
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_random_network_is_not_called_trained() -> None:
    network = make("squeezenet1_1")
    assert not network.trained
    assert network.provenance["weights"] == "random, seed 0"
    assert network.labels is not None
    assert network.labels[281] == "tabby"
    assert make("squeezenet1_1", num_classes=5).labels is None


@pytest.fixture(params=["plain.pth", "plain.pt", "plain.safetensors", "nested.pt", "parallel.pt", "half.pt", "old.pt"])
def state_file(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """The same weights in each way that people save them."""
    state = make("lenet", WeightsSource("random", "random", seed=9)).module.state_dict()
    path = tmp_path / request.param
    if path.suffix == ".safetensors":
        save_file(state, path)
    elif path.stem == "nested":
        torch.save({"epoch": 3, "state_dict": state}, path)
    elif path.stem == "parallel":
        torch.save({f"module.{key}": value for key, value in state.items()}, path)
    elif path.stem == "half":
        state = {key: value.half() for key, value in state.items()}
        torch.save(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=path.stem != "old")
    return path, {key: value.float() for key, value in state.items()}


def test_state_dict_files(state_file: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, state = state_file
    network = make("lenet", from_file(path))
    assert network.trained
    assert network.provenance["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    for key, value in network.module.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[key])


def saved(tmp_path: Path, value: object, name: str = "bad.pt") -> Path:
    torch.save(value, tmp_path / name)
    return tmp_path / name


def bad_files(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    damaged = saved(tmp_path, make("lenet").module.state_dict(), "cut.pt")
    damaged.write_bytes(damaged.read_bytes()[:5000])
    text = tmp_path / "text.safetensors"
    text.write_text("not tensors")
    empty = tmp_path / "empty.pt"
    empty.write_bytes(b"")
    return {
        "missing": (tmp_path / "none.pt", "does not exist"),
        "module": (saved(tmp_path, make("lenet").module, "module.pt"), "holds more than tensors"),
        "list": (saved(tmp_path, [torch.zeros(1)], "list.pt"), "is not a state dict"),
        "damaged": (damaged, ""),
        "empty": (empty, "cannot be read"),
        "text": (text, "cannot be read as a safetensors file"),
        "other network": (
            saved(tmp_path, make("squeezenet1_1").module.state_dict(), "other.pt"),
            "does not fit the network: missing 0.weight",
        ),
        "other classes": (
            saved(tmp_path, make("lenet", num_classes=3).module.state_dict(), "classes.pt"),
            "11.weight is [3, 84] in the file and [10, 84] in the network",
        ),
    }


@pytest.mark.parametrize(
    "case", ["missing", "module", "list", "damaged", "empty", "text", "other network", "other classes"]
)
def test_bad_weights_files(case: str, tmp_path: Path) -> None:
    path, message = bad_files(tmp_path)[case]
    with pytest.raises(WeightsError) as caught:
        make("lenet", from_file(path))
    assert message in str(caught.value)
    assert path.name in str(caught.value)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def published(tmp_path: Path, content: bytes, digest: str | None = None) -> str:
    """A URL of a file that promises its checksum as torchvision's do."""
    digest = digest or hashlib.sha256(content).hexdigest()[:8]
    path = tmp_path / f"net-{digest}.pth"
    path.write_bytes(content)
    return path.as_uri()


def test_download_comes_from_the_cache_the_second_time(tmp_path: Path, hub: Path) -> None:
    url = published(tmp_path, b"weights")
    first = weights.download(url)
    (tmp_path / first.name).unlink()
    assert weights.download(url) == first == hub / first.name
    assert first.read_bytes() == b"weights"


@pytest.mark.usefixtures("hub")
def test_download_that_cannot_be_had_names_url_file_and_ways_out(tmp_path: Path) -> None:
    url = (tmp_path / "gone-01234567.pth").as_uri()
    with pytest.raises(WeightsError) as caught:
        weights.download(url)
    for part in (url, "Put the file at", "gone-01234567.pth", "weights: PATH", "--weights random"):
        assert part in str(caught.value)


@pytest.mark.usefixtures("hub")
def test_wrong_checksum_is_refused(tmp_path: Path) -> None:
    url = published(tmp_path, b"weights", digest="01234567")
    for _ in range(2):  # what lies in the cache is no better than what was just downloaded
        with pytest.raises(WeightsError, match="wrong checksum"):
            weights.download(url)


def test_torchvisions_own_file_is_recognised_under_any_name() -> None:
    entries = get_model_weights("googlenet")
    assert family.recognised(entries, "1378be20" + "0" * 56) is entries.IMAGENET1K_V1
    assert family.recognised(entries, "0" * 64) is None
    assert family.recognised([SimpleNamespace(url="https://example.org/no-digest.pth")], "0" * 64) is None


def test_official_weights_bring_torchvisions_arguments() -> None:
    googlenet, vit = get_model_weights("googlenet"), get_model_weights("vit_b_16")
    assert family.entry_arguments("googlenet", googlenet.DEFAULT) == {"transform_input": True}
    assert family.entry_arguments("vit_b_16", vit.IMAGENET1K_SWAG_E2E_V1) == {"image_size": 384}


def test_unknown_weights_name_says_what_there_is() -> None:
    with pytest.raises(WeightsError, match="it has DEFAULT, IMAGENET1K_V1"):
        make("vgg11", WeightsSource("named", "IMAGENET1K_V9"))
    with pytest.raises(WeightsError, match="lenet has no weights named"):
        make("lenet", WeightsSource("named", "IMAGENET1K_V1"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("alexnett", "did you mean alexnet"),
        ("none.py:small", "does not exist"),
        ("small.py:smal", "has no callable 'smal'"),
        ("no_such_package.module:make", "cannot be imported: ModuleNotFoundError"),
        ("small.py:not_a_module", "gave a str, not a torch.nn.Module"),
        ("small.py:failing", "RuntimeError: no such luck"),
    ],
)
def test_networks_that_cannot_be_made(name: str, message: str) -> None:
    with pytest.raises(NetworkError) as caught:
        make(name)
    assert message in str(caught.value)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(NetworkError, match=r"cannot be made with arguments \{'classes': 3\}"):
        make("lenet", classes=3)
    with pytest.raises(NetworkError, match="unexpected keyword argument 'classes'"):
        make("small.py:small", classes=3)


def test_own_callable_may_bring_its_weights() -> None:
    network = make("small.py:already_trained", WeightsSource("included", "included"))
    assert network.trained
    assert not network.module.training


def test_module_path_callables_are_found_beside_the_manifest() -> None:
    assert parameters(make("small:small", num_classes=7).module) == parameters(
        make("small.py:small", num_classes=7).module
    )


def test_own_callable_that_looks_at_its_numbers_takes_a_file(tmp_path: Path) -> None:
    """On the meta device, where modules for files are made first, there are none to look at."""
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "def make():\n"
        "    width = int(torch.linspace(0, 4, 5).max().item())\n"
        "    return torch.nn.Linear(width, 2)\n"
    )
    save_file({"weight": torch.ones(2, 4), "bias": torch.zeros(2)}, tmp_path / "w.safetensors")
    source = WeightsSource("file", "w.safetensors", tmp_path / "w.safetensors")
    network = networks.find("net.py:make").make(NetworkRequest("net.py:make", source, {}, tmp_path))
    assert network.module.weight.sum().item() == 8


def test_what_own_callable_does_not_include_follows_the_seed(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import torch\ndef make():\n    return torch.nn.Linear(4, 2)\n")

    def weight(seed: int) -> torch.Tensor:
        source = WeightsSource("included", "included", seed=seed)
        return networks.find("net.py:make").make(NetworkRequest("net.py:make", source, {}, tmp_path)).module.weight

    assert torch.equal(weight(1), weight(1))
    assert not torch.equal(weight(1), weight(2))
