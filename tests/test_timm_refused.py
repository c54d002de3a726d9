"""What may be wrong about networks of timm: one clear message, with the place and the way out."""

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from conftest import build

from builder import networks
from builder.errors import BuilderError, NetworkError
from builder.networks.facts import facts_of


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    state = timm.create_model("test_vit").state_dict()
    torch.save(state, folder / "vit.pth")
    torch.save(timm.create_model("test_efficientnet").state_dict(), folder / "other.pth")
    torch.save({"epoch": 3}, folder / "figures.pth")
    torch.save(state | {"norm.weight": state["norm.weight"] * torch.nan}, folder / "diverged.pth")
    return folder


CASES = {
    "network: timm/resnet5x": ["models.yaml:3: ", "no network 'resnet5x'", "did you mean timm/resnet5"],
    "network: timm/resnet50.a9_in1k": ["no weights 'a9_in1k' of resnet50", "it has a1_in1k, "],
    "network: timm/tf_efficientnet_b0_ns": ["write `network: timm/tf_efficientnet_b0.ns_jft_in1k`"],
    "network: timm/RESNET5": ["did you mean timm/resnet5"],
    "network: timm/resnet50., weights: random": ["models.yaml:3: ", "ends without a tag"],
    "network: hf-hub:timm/resnet50.a1_in1k": ["models.yaml:3: ", "is written `network: timm/resnet50.a1_in1k` here"],
    "network: timm/hf_hub:me/mine, weights: random": ["models.yaml:3: ", "name its architecture, as timm/NAME"],
    "network: timm/nets.py:mine, weights: random, labels: [a]": ["preprocess: is needed"],
    "network: timm/": ["models.yaml:3: ", "no network ''"],
    "network: timm/test_vit, weights: other": [
        "models.yaml:4: models.m.weights: timm/test_vit has no weights named 'other'",
        "r160_in1k",
    ],
    "network: timm/test_vit.r160_in1k, weights: r1": ["names the weights 'r160_in1k' already"],
    "network: timm/test_vit, weights: included": ["is for your own callables"],
    "network: timm/test_vit, arguments: {num_classes: 5}": ["have 1000 classes", "build-repo train"],
    "network: timm/test_vit, weights: FILES/other.pth": [
        "models.yaml:4: ",
        "does not fit the network",
        "correct `network:`",
    ],
    "network: timm/test_vit, weights: FILES/figures.pth": ["is not a state dict"],
    "network: timm/test_vit, weights: FILES/diverged.pth": ["has NaN in norm.weight"],
    "network: timm/test_vit, weights: FILES/vit.pth, arguments: {num_classes: 5}": ["head.weight is [1000, 64]"],
    "network: timm/test_vit, weights: random, arguments: {wide: 5}": ["cannot be made with arguments", "wide"],
    "network: timm/test_vit, arguments: {wide: 5}": ["cannot be made with arguments", "wide"],
    "network: timm/test_vit, weights: random, arguments: {pretrained: true}": ["models.yaml:3: ", "`weights:` says it"],
    "network: timm/test_vit, weights: random, arguments: {num_classes: 0}": [
        "gives vectors",
        "write `task: embedding`",
    ],
    "network: timm/test_vit, weights: random, arguments: {num_classes: -1}": ["gives vectors"],
    "network: timm/vit_small_patch14_dinov2, weights: random": ["gives vectors", "write `task: embedding`"],
    "network: timm/test_vit, weights: random, task: detection, labels: [a]": ["is a network for classification"],
    "network: timm/resnet10t, weights: random, arguments: {in_chans: 4}": ["pictures of 4 channels"],
    "network: timm/test_vit, weights: random, arguments: {pretrained_cfg_overlay: {crop_mode: border}}": [
        "crop_mode border",
        "preprocess: is needed",
    ],
    "network: timm/vit_base_patch32_plus_256, arguments: {img_size: 32}": ["has no weights", "random"],
}


@pytest.mark.parametrize("keys", CASES)
def test_a_mistake_has_one_message(tmp_path: Path, files: Path, keys: str) -> None:
    first, *others = keys.replace("FILES", str(files)).split(", ", 1)
    text = f"models:\n  m:\n    {first}\n"
    for pair in _keys(others[0] if others else ""):
        text += f"    {pair}\n"
    with pytest.raises(BuilderError) as caught:
        build(tmp_path, text)
    for part in CASES[keys]:
        assert part in str(caught.value), str(caught.value)
    assert not (tmp_path / "repository" / "m").exists()


def _keys(text: str) -> list[str]:
    """Pairs at the top, each in flow style."""
    found, depth = [""], 0
    for letter in text:
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(letter, 0)
        if letter == "," and not depth:
            found.append("")
        else:
            found[-1] += letter
    return [pair.strip() for pair in found if pair.strip()]


def test_without_the_package_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("models:\n  m: {network: timm/resnet18, weights: random}\n")
    code = "import sys; sys.modules['timm'] = None; sys.argv = ['build-repo']; from builder.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                          check=False)  # fmt: skip
    assert done.returncode not in (0, 1)
    assert "models.yaml:2: models.m.network" in done.stderr
    assert "pip install 'triton-build-repo[timm]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_names_of_other_families_are_found_without_timm() -> None:
    code = (
        "import sys; from builder import networks; networks.find('resnet18'); networks.find('a.py:b'); "
        "networks.find('timm/resnet50.a1_in1k'); assert not {'timm', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_patterns_list_networks_or_the_tags_of_their_weights() -> None:
    names = [facts.name for facts in facts_of("timm/test_res*")]
    assert names == ["timm/test_resnet"]
    (facts,) = facts_of("timm/test_resnet.*")
    assert (facts.name, facts.family, facts.dataset) == ("timm/test_resnet.r160_in1k", "resnet", "imagenet-1k")
    assert facts.parameters == sum(p.numel() for p in timm.create_model("test_resnet").parameters())
    assert facts.licence == "apache-2.0"
    assert facts_of("timm/vit_base_patch16_dinov3")[0].licence == "dinov3-license"
    assert [facts.name for facts in facts_of("alexnet*")] == ["alexnet", "alexnet_gray"]
    with pytest.raises(NetworkError, match="no network 'nothing"):
        facts_of("timm/nothing_like_it*")
    assert networks.find("timm/vit_small_patch14_dinov2").facts("timm/vit_small_patch14_dinov2").task == "embedding"


def test_every_name_of_timm_is_found() -> None:
    for name in [*timm.list_models(), *timm.list_pretrained()]:
        assert networks.find(f"timm/{name}")
