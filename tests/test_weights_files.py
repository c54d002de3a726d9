"""Files of weights as people have them: taken where they can be understood in one way, or refused with what helps."""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torchvision.models import mnasnet0_5

from builder import networks
from builder.errors import WeightsError
from builder.manifest.models import parse_weights
from builder.types import Network, NetworkRequest, WeightsSource

SMALL = Path(__file__).parent / "networks"
sys.path.append(str(SMALL))
from worn import Extra, Normed, Renaming, Small, Tied, pair, wrapped  # noqa: E402

State = dict[str, Any]


def make(name: str, path: Path) -> Network:
    source = parse_weights(str(path), Path())
    assert source.kind == "file", source
    return networks.find(name).make(NetworkRequest(name, source, {}, SMALL))


def saved(tmp_path: Path, value: object, name: str = "w.pt") -> Path:
    torch.save(value, tmp_path / name)
    return tmp_path / name


def refusal(name: str, path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        make(name, path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def trained(module: nn.Module) -> nn.Module:
    """With statistics that are its own."""
    module.train()(torch.rand(4, 3, 8, 8))
    return module.eval()


def assert_same(network: Network, module: nn.Module) -> None:
    image = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(network.module(image), module(image))
    assert {tensor.dtype for tensor in network.module.parameters()} == {torch.float32}


def prefixed(prefix: str, **more: Any) -> Callable[[State], State]:
    return lambda state: {prefix + key: value for key, value in state.items()} | more


WORN: dict[str, tuple[Callable[[State], Any], str]] = {
    "compiled": (prefixed("_orig_mod."), "without _orig_mod."),
    "compiled in parallel": (prefixed("module._orig_mod."), "without _orig_mod., module."),
    "parallel and compiled": (prefixed("_orig_mod.module."), "without _orig_mod., module."),
    "lightning": (lambda state: {"state_dict": prefixed("model.")(state), "epoch": 3}, "behind 'model.'"),
    "lightning, compiled": (prefixed("model._orig_mod."), "behind 'model.'"),
    "lightning, with a loss": (
        lambda state: prefixed("net.")(state) | {"criterion.weight": torch.ones(3), "accuracy.tp": torch.tensor(1)},
        "left out: criterion.weight, accuracy.tp",
    ),
    "within two": (prefixed("student.net."), "behind 'student.net.'"),
    "a part in parallel": (
        lambda state: {key.replace("conv.", "conv.module."): value for key, value in state.items()},
        "without module.",
    ),
    "averaged": (prefixed("module.", n_averaged=torch.tensor(3)), "left out: n_averaged"),
    "profiled": (
        lambda state: state | {f"{part}total_{what}": torch.zeros(1, dtype=torch.float64)
                               for part in ("", "conv.", "norm.") for what in ("ops", "params")},
        "left out: total_ops, total_params, conv.total_ops and 3 more",
    ),
    "averages beside": (lambda state: {"model": state, "ema": prefixed("module.")(state)}, "which also holds 'ema'"),
    "averages alone": (lambda state: {"model": None, "ema": prefixed("module.")(state)}, "without module."),
    "doubles": (lambda s: {k: v.double() if v.is_floating_point() else v for k, v in s.items()}, "float64 became"),
}  # fmt: skip


@pytest.mark.parametrize("name", WORN)
def test_what_wrappers_leave_is_understood_and_told(name: str, tmp_path: Path) -> None:
    change, told = WORN[name]
    module = trained(Small())
    network = make("worn.py:Small", saved(tmp_path, change(module.state_dict())))
    assert_same(network, module)
    assert told in network.provenance["weights_read"]


PLAIN: dict[str, Callable[[State], Any]] = {
    "nested": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"state": {0: {"exp_avg": torch.ones(1)}}}},
    "net": lambda state: {"net": state, "acc": 0.9, "epoch": 3},
    "deeply": lambda state: {"model": {"state_dict": state}},
    "unheard of": lambda state: {"backbone_of_my_own": state, "optimizer_state": {"exp_avg": torch.ones(1)}},
    "callbacks beside": lambda state: {"state_dict": state, "callbacks": {"best": {"a.ckpt": torch.ones(1)}},
                                       "best": {"loss": torch.tensor(0.5)}},
    "options beside": lambda state: {"state_dict": state, "args": argparse.Namespace(lr=0.1, path=Path("a"))},
    "figures beside": lambda state: {"state_dict": state, "best": np.float64(0.5), "epoch": np.int64(3)},
    "parameters": lambda state: {k: nn.Parameter(v) if v.is_floating_point() else v for k, v in state.items()},
    "sparse": lambda state: state | {"conv.bias": state["conv.bias"].to_sparse()},
    "without what batches are counted by": lambda state: {k: v for k, v in state.items() if "num_batches" not in k},
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_what_has_one_meaning_needs_no_words(name: str, tmp_path: Path) -> None:
    module = trained(Small())
    network = make("worn.py:Small", saved(tmp_path, PLAIN[name](module.state_dict())))
    assert_same(network, module)
    assert "weights_read" not in network.provenance


@pytest.mark.parametrize("name", ["w.ckpt", "w.pth.tar", "pytorch_model.bin", "w.safetensors", "w.pkl", "w.v2", "w"])
def test_names_as_frameworks_write_them(name: str, tmp_path: Path) -> None:
    """The content tells the form, whatever the name says."""
    module = trained(Small())
    assert_same(make("worn.py:Small", saved(tmp_path, module.state_dict(), name)), module)
    save_file(module.state_dict(), tmp_path / name)
    assert_same(make("worn.py:Small", tmp_path / name), module)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("best.ckpt", "file"), ("best.pth.tar", "file"), ("model.bin", "file"), ("v1.5", "file"), ("./best", "file"),
        ("DEFAULT", "named"), ("IMAGENET1K_V1", "named"), ("ResNet50_Weights.DEFAULT", "named"), ("random", "random"),
    ],
)  # fmt: skip
def test_files_are_told_from_torchvisions_names(text: str, kind: str) -> None:
    assert parse_weights(text, Path()).kind == kind


def old_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        module = Small()
        module.head = nn.utils.weight_norm(module.head)
    return module


def test_old_forms_that_modules_bring_up_to_date(tmp_path: Path) -> None:
    old = trained(old_norm())
    assert_same(make("worn.py:Normed", saved(tmp_path, dict(old.state_dict()))), old)
    new = trained(Normed())
    assert_same(make("worn.py:Normed", saved(tmp_path, new.state_dict())), new)
    module = trained(Renaming())
    former = {key.replace("head.", "fc."): value for key, value in module.state_dict().items()}
    assert_same(make("worn.py:Renaming", saved(tmp_path, former)), module)
    assert_same(make("worn.py:Renaming", saved(tmp_path, prefixed("model.")(former))), module)
    assert_same(make("worn.py:Turning", saved(tmp_path, module.state_dict())), module)


def test_extra_state_is_handed_on(tmp_path: Path) -> None:
    module = trained(Extra())
    assert_same(make("worn.py:Extra", saved(tmp_path, module.state_dict())), module)


@pytest.mark.parametrize("is_new", [True, False])
def test_versions_of_modules_are_kept(is_new: bool, tmp_path: Path) -> None:
    """torchvision's mnasnet had another stem in its first version, and refuses files that do not tell theirs."""
    module = mnasnet0_5().eval()
    path = saved(tmp_path, prefixed("_orig_mod.")(module.state_dict()))
    if is_new:
        path = tmp_path / "w.safetensors"
        save_file(module.state_dict(), path)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(make("mnasnet0_5", path).module(image), module(image))


def test_shared_tensors_are_saved_once(tmp_path: Path) -> None:
    module = Tied()
    save_model(module, tmp_path / "w.safetensors")
    network = make("worn.py:Tied", tmp_path / "w.safetensors")
    image = torch.rand(2, 3, 8, 8)
    assert torch.equal(network.module(image), module(image))
    path = saved(tmp_path, {"one.weight": module.one.weight})
    assert torch.equal(make("worn.py:Tied", path).module(image), module(image))


def test_the_network_may_be_the_one_that_is_wrapped(tmp_path: Path) -> None:
    module = trained(Small())
    network = make("worn.py:wrapped", saved(tmp_path, module.state_dict()))
    assert torch.equal(network.module.model.head.weight, module.head.weight)
    averaged = AveragedModel(wrapped())
    network = make("worn.py:wrapped", saved(tmp_path, averaged.state_dict()))
    assert torch.equal(network.module.model.head.weight, averaged.module.model.head.weight)


def test_masks_may_be_infinite(tmp_path: Path) -> None:
    state = Small().state_dict() | {"mask": torch.tensor([0.0, float("-inf")])}
    assert make("worn.py:Masked", saved(tmp_path, state)).module.mask.isinf().any()


def quantised(state: State) -> State:
    return {key: (value * 100).to(torch.int8) if value.is_floating_point() else value for key, value in state.items()}


def spoilt(key: str, value: Any) -> Callable[[State], State]:
    return lambda state: state | {key: value}


REFUSED: dict[str, tuple[Callable[[State], Any], str]] = {
    "integers": (quantised, "conv.weight is int8 in the file and float32 in the network"),
    "complex": (spoilt("head.bias", torch.ones(3, dtype=torch.complex64)), "head.bias is complex64 in the file"),
    "no numbers": (spoilt("head.bias", torch.tensor([0, float("nan"), 1])), "has NaN in head.bias"),
    "infinite": (spoilt("head.bias", torch.tensor([0, float("inf"), 1])), "infinite numbers in head.bias"),
    "classes": (
        spoilt("head.bias", torch.ones(5)),
        "[5] in the file and [3] in the network. Correct the network's `arg",
    ),
    "several": (lambda _: pair().state_dict(), "more than once: behind the prefixes 'student.', 'teacher.'"),
    "several dicts": (lambda state: {"generator": state, "critic": state}, "holds several, of which none is called"),
    "no key": (lambda state: {f"x{n}": v for n, v in enumerate(state.values())}, "None of the network's keys is there"),
    "quantised": (
        lambda state: {"conv.weight": state["conv.weight"], "conv.scale": torch.ones(1)},
        "unknown conv.scale. These are a quantised network's",
    ),
    "optimizer": (lambda _: {"optimizer": {"state": {}}, "epoch": 1}, "holds none: its keys are optimizer, epoch"),
    "module": (lambda _: nn.Linear(1, 1), "more than tensors (torch.nn.modules.linear.Linear"),
    "number": (lambda _: 3, "is not a state dict, but a int"),
    "nothing": (lambda _: {}, "is not a state dict"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_the_networks_weights_is_refused(name: str, tmp_path: Path) -> None:
    change, expected = REFUSED[name]
    assert expected in refusal("worn.py:Small", saved(tmp_path, change(Small().state_dict())))


def test_a_prefix_is_not_answered_by_the_number_of_classes(tmp_path: Path) -> None:
    """What differs beside the prefix is told, and that it was understood."""
    state = prefixed("model.")(Small(num_classes=5).state_dict())
    message = refusal("worn.py:Small", saved(tmp_path, state))
    assert "(the keys are those behind 'model.'): head.weight is [5, 4] in the file and [3, 4]" in message
    state = Small().state_dict() | {"other.weight": torch.ones(1)}
    assert "num_classes" not in refusal("worn.py:Small", saved(tmp_path, state))


NO_WEIGHTS = {
    "empty": (b"", "is empty"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    "page": (b"\n<!DOCTYPE html><html>Sign in</html>", "is a web page"),
    "refusal": (b'<?xml version="1.0"?><Error/>', "is XML"),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(60), "is HDF5"),
    "gzip": (b"\x1f\x8b\x08" + bytes(60), "unpack it"),
    "zip": (b"PK\x05\x06" + bytes(18), "not one of torch.save"),
    "cut zip": (b"PK\x03\x04" + bytes(60), "cannot be read as a PyTorch file"),
    "text": (b"no tensors here", "holds more than tensors"),
}


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("name", NO_WEIGHTS)
def test_files_that_only_have_the_name_of_weights(name: str, suffix: str, tmp_path: Path) -> None:
    content, expected = NO_WEIGHTS[name]
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    is_other = suffix == ".safetensors" and name in ("text", "zip")
    assert ("safetensors file" if is_other else expected) in refusal("worn.py:Small", path)


def test_code_is_no_weights(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(1, 1)), str(tmp_path / "w.pt"))
    assert "is a TorchScript file: a whole network" in refusal("worn.py:Small", tmp_path / "w.pt")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "w.pt").mkdir()
    assert "is a folder" in refusal("worn.py:Small", tmp_path / "w.pt")


def test_a_source_without_a_suffix_says_how_to_write_one() -> None:
    source = WeightsSource("named", "best")
    with pytest.raises(WeightsError, match=r"written \./best"):
        networks.find("worn.py:Small").make(NetworkRequest("worn.py:Small", source, {}, SMALL))


@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        (torch.empty(3, device="meta"), "saved from the meta device"),
        (torch.nested.nested_tensor([torch.rand(2), torch.rand(3)]), "nested tensor"),
    ],
)
def test_tensors_without_numbers_or_shape_are_refused(tensor: torch.Tensor, what: str, tmp_path: Path) -> None:
    path = saved(tmp_path, Small().state_dict() | {"fc.bias": tensor})
    assert re.search(f"w.*: fc.bias .*{what}", refusal("worn.py:Small", path))
