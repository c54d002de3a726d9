"""The segmentation networks of torchvision.models, by torchvision's own names.

torchvision resizes the shorter side alone, and evaluates one picture at a time; a batch needs one size, so that
pictures are resized to 520x520 here, and a mask is led back to the picture's own form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from builder.data.recipe import PreprocessRecipe
from builder.errors import WeightsError
from builder.networks import state_files, weights
from builder.networks.torchvision import recognised
from builder.types import Network, NetworkFacts, NetworkRequest
from builder.util.hashing import sha256

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

DEFAULT_WEIGHTS: str | None = "DEFAULT"
SIDE = 520
# Heads that exist for training alone; the checkpoints hold their weights all the same.
AUXILIARY_PREFIXES = ("aux_classifier.",)
YEARS = {"fcn": 2014, "deeplabv3": 2017, "lraspp": 2019}
"""Year of the family's first paper."""
LAYERS = {
    "deeplabv3_mobilenet_v3_large": 66,
    "deeplabv3_resnet101": 104,
    "deeplabv3_resnet50": 53,
    "fcn_resnet101": 102,
    "fcn_resnet50": 51,
    "lraspp_mobilenet_v3_large": 64,
}
"""Weighted layers on the longest way from input to output."""


def names() -> Sequence[str]:
    return tuple(LAYERS)  # importing torchvision to ask takes seconds; a test compares the two


def facts(name: str) -> NetworkFacts:
    meta = _weights_of(name).DEFAULT.meta
    ((dataset, metrics),) = meta["_metrics"].items()
    family = name.split("_")[0]
    return NetworkFacts(
        name=name,
        family=family,
        year=YEARS[family],
        layers=LAYERS[name],
        parameters=meta["num_params"],
        top1=None,
        top5=None,
        gflops=meta["_ops"],
        dataset=dataset,
        task="segmentation",
        miou=metrics["miou"],
    )


def arguments(name: str) -> Sequence[str] | None:
    del name  # builders hand on whatever they get
    return None


def make(request: NetworkRequest) -> Network:
    source = request.weights
    if source.kind == "random":
        module = weights.make_random(_maker(request), source.seed)
        own = None if "num_classes" in request.arguments else _labels(_weights_of(request.name).DEFAULT)
        return Network(module.eval(), recipe(), own, False, weights.provenance(request))
    members = _weights_of(request.name)
    if source.kind == "named":
        entry = _entry(request.name, source.name)
        return _with_state(request, entry, weights.download(entry.url))
    if source.kind == "file":
        assert source.path is not None  # parse_weights gives every "file" source one
        return _with_state(request, recognised(members, sha256(source.path)), source.path)
    raise WeightsError(
        f"`weights: {source.name}` is for your own callables; {request.name} takes {', '.join(members.__members__)}, "
        "a file, or random"
    )


def recipe() -> PreprocessRecipe:
    return PreprocessRecipe(channels=3, resize=(SIDE, SIDE), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def _with_state(request: NetworkRequest, entry: Any, path: Path) -> Network:
    """`entry`: torchvision's own weights, if the file is theirs."""
    what = f"{entry} of {request.name}" if entry else str(path)
    module, found = weights.make_with_state(_maker(request), state_files.read(path), what, AUXILIARY_PREFIXES)
    told = {"weights": str(entry)} if entry else {}
    provenance = weights.provenance(request, path) | told | found
    return Network(module.eval(), recipe(), _labels(entry) if entry else None, True, provenance)


def _weights_of(name: str) -> Any:
    from torchvision.models import get_model_weights

    return get_model_weights(name)


def _entry(name: str, entry: str) -> Any:
    members = _weights_of(name)
    if entry not in ("DEFAULT", *members.__members__):
        known = ", ".join(["DEFAULT", *members.__members__])
        raise WeightsError(f"{name} has no weights named {entry!r}; it has {known}; {state_files.WAYS_OUT}")
    return members.DEFAULT if entry == "DEFAULT" else members[entry]


def _labels(entry: Any) -> tuple[str, ...]:
    return tuple(entry.meta["categories"])


def _maker(request: NetworkRequest) -> Any:
    from torchvision.models import get_model_builder

    build = get_model_builder(request.name)
    given = {} if request.name.startswith("lraspp") else {"aux_loss": False}

    def make() -> nn.Module:
        found: nn.Module = build(weights=None, weights_backbone=None, **(given | request.arguments))
        return found

    return weights.guard_arguments(make, request)
